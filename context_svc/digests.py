"""What is kept of a secret: its SHA-256. Only for secrets of full entropy; passwords go through Argon2id."""

from __future__ import annotations

import hashlib


def digest(secret: str) -> str:
    """The SHA-256 of a random secret, lower-case hex."""
    return hashlib.sha256(secret.encode()).hexdigest()
