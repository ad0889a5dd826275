"""What a plugin asks for beyond its cell: `<name>.toml` beside `<name>.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")
_MANIFEST_BYTES = 64 * 1024


class ManifestBroken(Exception):
    """The manifest cannot be read. `str()` of it says why."""


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator says of one action; it wins over what the plugin says, but for the effect: there the
    stronger one wins.
    """

    effect: Literal["none", "reads_out", "effect"] | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=120)] | None = None
    context: tuple[str, ...] | None = None
    consents: tuple[str, ...] | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hosts of the public web it may ask, files and folders it may read, and notes on its actions."""

    hosts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    actions: Mapping[str, About] = {}

    @property
    def asks(self) -> str:
        """What it asks for in words; empty when nothing."""
        wishes = [f"the network ({', '.join(self.hosts)})"] if self.hosts else []
        wishes += [f"files ({', '.join(self.files)})"] if self.files else []
        return " and ".join(wishes)

    @property
    def digest(self) -> str:
        """What the operator approves: it changes with the wishes, with nothing else."""
        wishes = json.dumps([sorted(self.hosts), sorted(self.files)])
        return sha256(wishes.encode()).hexdigest()


def manifest(plugin: Path) -> Manifest:
    """The manifest beside a plugin; an empty one when there is none. Raises ManifestBroken."""
    file = plugin.with_suffix(".toml")
    if not file.is_file():
        return Manifest()
    try:
        if file.stat().st_size > _MANIFEST_BYTES:
            raise ManifestBroken(f"{file.name} is too large")
        found = msgspec.toml.decode(file.read_bytes(), type=Manifest)
    except (OSError, UnicodeError, msgspec.DecodeError) as error:
        raise ManifestBroken(f"{file.name}: {error}") from error
    for host in found.hosts:
        if not _HOST.fullmatch(host):
            raise ManifestBroken(f"{file.name}: {host!r} is no name of a host")
    for each in found.files:
        if not Path(each).is_absolute():
            raise ManifestBroken(f"{file.name}: {each!r} is no whole path")
    return found
