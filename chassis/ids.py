"""Identifiers and secrets."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_RANDOM_BITS = 62
_FRACTION_BITS = 12


def uuid() -> str:
    """A new UUID version 7 (RFC 9562) as text: later ones sort after earlier ones, to about 0.25 µs."""
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << _FRACTION_BITS) // 1_000_000  # RFC 9562, method 3: the clock's finer part
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << _RANDOM_BITS
    return str(UUID(int=value | secrets.randbits(_RANDOM_BITS)))


def token(size: int = 32) -> str:
    """A secret of `size` random bytes, in letters that are safe in URLs and headers."""
    return secrets.token_urlsafe(size)
