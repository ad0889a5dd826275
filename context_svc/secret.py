"""The room's own secret: one file, from which each use has a key of its own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from chassis.keys import KeyRefused
from chassis.whole import create_whole

_SIZE = 32


class ServerSecret:
    """32 random bytes that never leave the machine; lost, every refresh and page token is void."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    @classmethod
    def load_or_create(cls, path: Path) -> ServerSecret:
        """The secret in `path` (mode 0600), made when there is none. Raises KeyRefused."""
        if not path.exists():
            create_whole(path, secrets.token_bytes(_SIZE))  # one winner when two processes start together
        if path.stat().st_mode & 0o077:
            raise KeyRefused(f"{path} can be read by others: chmod 600")
        value = path.read_bytes()
        if len(value) != _SIZE:
            raise KeyRefused(f"{path} does not hold {_SIZE} bytes")
        return cls(value)

    def key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, of no use for any other."""
        return hmac.digest(self._value, purpose.encode(), hashlib.sha256)
