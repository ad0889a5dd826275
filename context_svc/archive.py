"""A backup as one file: a ZIP with the parts and, last, a manifest that names each part's size and SHA-256.

A file that was cut off has no directory of its members; one that was changed has other digests. Both are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

FORMAT = 1
MANIFEST = "manifest.json"
CONTEXT = "context.jsonl"
MEDIA = "media.bin"
_PIECE = 256 * 1024
_ENDING = ".backup"


class ArchiveBroken(Exception):
    """The file is no whole, unchanged backup."""


class ArchiveTooNew(Exception):
    """The file was made by a newer version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One member of the file."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a backup says of itself. `schema` is the newest migration of context_svc that it knows."""

    format: int
    id: str
    server_id: str
    version: str
    schema: int
    snapshot_us: int
    expire_us: int
    media_format: int
    parts: dict[str, Part]

    def text(self) -> bytes:
        """As it stands in the file; its SHA-256 stands for the whole backup."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    def sha256(self) -> str:
        """SHA-256 of the manifest, lower-case hex."""
        return hashlib.sha256(self.text()).hexdigest()


class PartWriter:
    """The open end of a part that is being written."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append."""
        self._member.write(data)
        self._digest.update(data)
        self._size += len(data)

    def line(self, text: str) -> None:
        """Append a line."""
        self.write(text.encode() + b"\n")

    def part(self) -> Part:
        """What was written so far."""
        return Part(size=self._size, sha256=self._digest.hexdigest())


class Draft:
    """A backup on its way into a folder. It has its name only once it is whole and on the disk."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"{name}{_ENDING}"
        self._partial = folder / f"{name}{_ENDING}.partial"
        handle = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(handle, "wb")
        self._zip = zipfile.ZipFile(self._file, "w", allowZip64=True)
        self.parts: dict[str, Part] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[PartWriter]:
        """Write one part."""
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED if name == CONTEXT else zipfile.ZIP_STORED
        info.external_attr = 0o600 << 16
        with self._zip.open(info, "w", force_zip64=True) as member:
            writer = PartWriter(member)
            yield writer
        self.parts[name] = writer.part()

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, and give the file its name once all of it is on the disk."""
        self._zip.writestr(MANIFEST, manifest.text())
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self.path)
        _sync_folder(self.path.parent)

    def abandon(self) -> None:
        """Leave nothing behind of a draft that was not finished."""
        with suppress(OSError, ValueError):
            self._zip.close()
        self._file.close()
        self._partial.unlink(missing_ok=True)


def read_manifest(path: Path, *, schema: int) -> Manifest:
    """What a file says of itself. Raises ArchiveBroken and ArchiveTooNew."""
    with _opened(path) as file:
        return _manifest(file, schema)


def check(path: Path, *, schema: int) -> Manifest:
    """Read a whole backup back. Raises ArchiveBroken and ArchiveTooNew."""
    with _opened(path) as file:
        manifest = _manifest(file, schema)
        for name, part in manifest.parts.items():
            digest, size = hashlib.sha256(), 0
            with file.open(name) as member:
                while piece := member.read(_PIECE):
                    digest.update(piece)
                    size += len(piece)
            if (size, digest.hexdigest()) != (part.size, part.sha256):
                raise ArchiveBroken(f"{name} is not as it was written")
    return manifest


def lines(path: Path) -> Iterator[str]:
    """The lines of context_svc's part."""
    with _opened(path) as file, file.open(CONTEXT) as member:
        for line in member:
            yield line.decode()


def pieces(path: Path, name: str) -> Iterator[bytes]:
    """A part in pieces of at most 256 KiB."""
    with _opened(path) as file, file.open(name) as member:
        while piece := member.read(_PIECE):
            yield piece


def found_in(folder: Path) -> list[Path]:
    """The backups of a folder, and of a file that file itself."""
    if folder.is_file():
        return [folder]
    return sorted(folder.glob(f"*{_ENDING}")) if folder.is_dir() else []


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError, EOFError, NotImplementedError) as error:
        raise ArchiveBroken(f"{path.name}: {error}") from error


def _manifest(file: zipfile.ZipFile, schema: int) -> Manifest:
    told: dict[str, Any] = {}
    try:
        told = json.loads(file.read(MANIFEST))
        if told["format"] > FORMAT or told["schema"] > schema:
            raise ArchiveTooNew(f"made by version {told['version']}")
        parts = {name: Part(**part) for name, part in told.pop("parts").items()}
        return Manifest(parts=parts, **told)
    except (ValueError, TypeError, AttributeError) as error:
        raise ArchiveBroken("the manifest cannot be read") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
