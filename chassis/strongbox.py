"""Secrets at rest: one file of names and values, encrypted under a key that lies elsewhere.

The file holds ``mesh secrets 1``, a nonce and AES-256-GCM over a JSON object; the key is 32 bytes of its own, mode
0600. Rooms read, the operator's command writes. What was changed by anybody without the key does not open.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.keys import KeyRefused

FILE, KEY = "secrets.enc", "secrets.key"
_HEADER = b"mesh secrets 1\n"
_NONCE, _KEY_BYTES = 12, 32


def read(file: Path, key: Path) -> dict[str, str]:
    """Every secret by name; none when there is no file. Raises KeyRefused when it does not open."""
    try:
        sealed = file.read_bytes()
    except FileNotFoundError:
        return {}
    if file.stat().st_mode & 0o077:
        raise KeyRefused(f"{file} can be read by others: chmod 600")
    return unseal(sealed, load_key(key))


def load_key(path: Path) -> bytes:
    """The key in `path`. Raises KeyRefused when it is missing, is none, or can be read by others."""
    try:
        if path.stat().st_mode & 0o077:
            raise KeyRefused(f"{path} can be read by others: chmod 600")
        key = path.read_bytes()
    except FileNotFoundError as error:
        raise KeyRefused(f"{path} is missing, and without it no secret can be read") from error
    if len(key) != _KEY_BYTES:
        raise KeyRefused(f"{path} holds no key")
    return key


def load_or_create_key(path: Path) -> bytes:
    """The key in `path`, made when there is none. Raises KeyRefused."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return load_key(path)
    key = secrets.token_bytes(_KEY_BYTES)
    with os.fdopen(handle, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


def seal(values: Mapping[str, str], key: bytes) -> bytes:
    """The file's bytes."""
    nonce = secrets.token_bytes(_NONCE)
    plain = json.dumps(dict(values), ensure_ascii=False, sort_keys=True).encode()
    return _HEADER + nonce + AESGCM(key).encrypt(nonce, plain, _HEADER)


def unseal(sealed: bytes, key: bytes) -> dict[str, str]:
    """What `seal` was given. Raises KeyRefused for another key, and for bytes that were changed."""
    nonce, body = sealed[len(_HEADER) : len(_HEADER) + _NONCE], sealed[len(_HEADER) + _NONCE :]
    if not sealed.startswith(_HEADER) or len(nonce) != _NONCE:
        raise KeyRefused("the file of secrets is none")
    try:
        values = json.loads(AESGCM(key).decrypt(nonce, body, _HEADER))
    except (InvalidTag, ValueError) as error:
        raise KeyRefused("the file of secrets does not open with its key") from error
    return {str(name): str(value) for name, value in values.items()}
