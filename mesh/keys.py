"""The rooms' own keys: one Ed25519 pair each, made at the first start.

`<keys>/<room>.key` is private (PKCS #8 PEM, 0600) and read by that room alone; `<keys>/rooms.jwks` has the
public halves of all, with the room's name as key id. The keys that sign people's tokens belong to
context_svc.
"""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mesh.errors import PlaceUnsafe
from mesh.rooms import ROOMS


def ensure(folder: Path) -> None:
    """Make each missing room key in `folder`, and write the public key set. Raises PlaceUnsafe for a key that
    is not an Ed25519 private key.
    """
    publics = [_public(name, _key(folder / f"{name}.key")) for name in ROOMS]
    written = folder / "rooms.jwks"
    fresh = written.with_suffix(".new")
    fresh.write_text(json.dumps({"keys": publics}, indent=1))
    fresh.replace(written)


def readable_by_others(folder: Path) -> list[Path]:
    """Answer the private keys that another account of this machine could read."""
    return [path for path in sorted(folder.glob("*.key")) if path.stat().st_mode & 0o077]


def _key(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        return _make(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise _unusable(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path)
    return key


def _make(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        os.fsync(file.fileno())
    fresh.replace(path)
    return key


def _public(name: str, key: Ed25519PrivateKey) -> Mapping[str, str]:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": name, "x": x}


def _unusable(path: Path) -> PlaceUnsafe:
    return PlaceUnsafe(f"{path} is not an Ed25519 private key.", "Remove it; the next start makes a new one.")
