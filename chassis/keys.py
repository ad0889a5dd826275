"""Ed25519 keys: the private one of this process in a file, the public ones of others by key id."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chassis.whole import create_whole

Jwk: TypeAlias = Mapping[str, object]

_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
_KEY_ID = re.compile(r"[A-Za-z0-9_.:#-]{1,64}")


class KeyRefused(Exception):
    """A key file that others may read, or that holds no Ed25519 key; or a public key of another kind."""


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """The private key in `path` (PEM, mode 0600), made when there is none. Raises KeyRefused."""
    if not path.exists():
        made = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        create_whole(path, made)
    return _load(path)


def _load(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        raise KeyRefused(f"{path} can be read by others: chmod 600")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise KeyRefused(f"{path} holds no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyRefused(f"{path} is not an Ed25519 key")
    return key


def to_jwk(key_id: str, key: Ed25519PublicKey) -> dict[str, str]:
    """A public key as RFC 8037 writes it."""
    x = base64.urlsafe_b64encode(key.public_bytes(*_RAW)).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key_id, "x": x}


class KeySet:
    """The public keys a verifier trusts, replaceable at run time. `version` rises with each change."""

    def __init__(self, jwks: Iterable[Jwk] = ()) -> None:
        self._keys = _read(jwks)
        self.version = 0

    def get(self, key_id: str) -> Ed25519PublicKey | None:
        """The key of that id, or None."""
        return self._keys.get(key_id)

    def replace(self, jwks: Iterable[Jwk]) -> None:
        """Trust exactly these from now on. Raises KeyRefused and keeps the old ones when one is unfit."""
        self._keys = _read(jwks)
        self.version += 1

    def to_jwks(self) -> list[dict[str, str]]:
        """The keys as a JWKS document lists them."""
        return [to_jwk(key_id, key) for key_id, key in self._keys.items()]


def _read(jwks: Iterable[Jwk]) -> dict[str, Ed25519PublicKey]:
    return dict(_public(jwk) for jwk in jwks)


def _public(jwk: Jwk) -> tuple[str, Ed25519PublicKey]:
    key_id, x = jwk.get("kid"), jwk.get("x")
    fit = jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519" and "d" not in jwk
    if not fit or not isinstance(x, str) or not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise KeyRefused("only Ed25519 public keys with a key id are trusted")
    try:
        return key_id, Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    except ValueError as error:
        raise KeyRefused(f"{key_id} is not an Ed25519 key") from error
