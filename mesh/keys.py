"""The rooms' own keys: one Ed25519 pair each, made at the first start.

`<keys>/<room>.key` is private (0600) and read by that room alone; `<keys>/rooms.jwks` has the public
halves of all, each under the key id `room:<name>` that chassis/auth.py gives to the tokens it signs. The
keys that sign people's tokens belong to context_svc.
"""

import json
from pathlib import Path

from chassis.auth import room_issuer
from chassis.keys import KeyRefused, load_or_create_key, to_jwk
from chassis.whole import write_whole
from mesh.errors import PlaceUnsafe
from mesh.rooms import ROOMS


def ensure(folder: Path) -> None:
    """Make each missing room key in `folder` and write the public key set.

    Raises PlaceUnsafe for a key that others may read, or that is none.
    """
    try:
        publics = [_public(folder, name) for name in ROOMS]
    except KeyRefused as refusal:
        raise PlaceUnsafe(
            f"{refusal}.", "Put that right, or remove the file: a start makes a new one."
        ) from refusal
    write_whole(folder / "rooms.jwks", json.dumps({"keys": publics}, indent=1).encode(), mode=0o644)


def _public(folder: Path, room: str) -> dict[str, str]:
    return to_jwk(room_issuer(room), load_or_create_key(folder / f"{room}.key").public_key())


def readable_by_others(folder: Path) -> list[Path]:
    """Answer the private keys that another account of this machine could read."""
    return [path for path in sorted(folder.glob("*.key")) if path.stat().st_mode & 0o077]
