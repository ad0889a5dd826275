"""Identifiers and secrets."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_RANDOM_BITS = 62
_FRACTION_BITS = 12


def uuid(at_us: int | None = None) -> str:
    """A new UUID version 7 (RFC 9562) as text: later ones sort after earlier ones, to about 0.25 µs.

    `at_us` dates it, in microseconds since 1970; without it it is of now.
    """
    nanoseconds = time.time_ns() if at_us is None else at_us * 1_000
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << _FRACTION_BITS) // 1_000_000  # RFC 9562, method 3: the clock's finer part
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << _RANDOM_BITS
    return str(UUID(int=value | secrets.randbits(_RANDOM_BITS)))


def token(size: int = 32) -> str:
    """A secret of `size` random bytes, in letters that are safe in URLs and headers."""
    return secrets.token_urlsafe(size)
