"""The archive of an account: a ZIP of JSON lines and blobs, written as a stream (docs/export-format.md).

::

    manifest.json              format, version, how many records of each kind
    <kind>.jsonl               one record a line, ProtoJSON of the contract's messages
    blobs/<sha256>             the bytes of files, under the digest that `media.jsonl` names
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

FORMAT, VERSION = "assistant-account", 1
MANIFEST = "manifest.json"
BLOBS = "blobs/"
CHUNK = 256 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a ZIP can name: times are in the records
_MODE = 0o600 << 16


class _Sink:
    """Collects what a ZIP file writes; it can only be written on."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def write(self, data: bytes) -> int:
        self.waiting += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits elsewhere."""


class ArchiveWriter:
    """Writes an archive piece by piece; `take` hands out what is ready."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, allowZip64=True)  # type: ignore[call-overload]
        self._digest = hashlib.sha256()
        self._blobs: set[str] = set()
        self.size = 0
        self.counts: dict[str, int] = {}

    @property
    def sha256(self) -> str:
        """Of everything taken so far."""
        return self._digest.hexdigest()

    @contextmanager
    def records(self, kind: str) -> Iterator[Records]:
        """The file of one kind of record, open while the block lasts."""
        self.counts.setdefault(kind, 0)
        with self._entry(f"{kind}.jsonl", zipfile.ZIP_DEFLATED) as entry:
            yield Records(self.counts, kind, entry)

    @contextmanager
    def blob(self, sha256: str) -> Iterator[IO[bytes] | None]:
        """The file of some bytes, which are compressed already; None when they are in the archive."""
        if sha256 in self._blobs:
            yield None
            return
        self._blobs.add(sha256)
        with self._entry(f"{BLOBS}{sha256}", zipfile.ZIP_STORED) as entry:
            yield entry

    def finish(self, about: dict[str, str]) -> None:
        """Write the manifest and the end."""
        manifest = {"format": FORMAT, "version": VERSION, **about, "counts": self.counts}
        with self._entry(MANIFEST, zipfile.ZIP_DEFLATED) as entry:
            entry.write(json.dumps(manifest, indent=2).encode() + b"\n")
        self._zip.close()

    def take(self, least: int = CHUNK) -> Iterator[bytes]:
        """What is ready, in chunks, as soon as it is at least so much."""
        waiting = self._sink.waiting
        while len(waiting) >= max(least, 1):
            chunk = bytes(waiting[:CHUNK])
            del waiting[:CHUNK]
            self._digest.update(chunk)
            self.size += len(chunk)
            yield chunk

    @contextmanager
    def _entry(self, name: str, compression: int) -> Iterator[IO[bytes]]:
        about = zipfile.ZipInfo(name, _EPOCH)
        about.compress_type, about.external_attr = compression, _MODE
        with self._zip.open(about, "w", force_zip64=True) as entry:
            yield entry


class Records:
    """The lines of one kind of record."""

    def __init__(self, counts: dict[str, int], kind: str, entry: IO[bytes]) -> None:
        self._counts = counts
        self._kind = kind
        self._entry = entry

    def write(self, line: str) -> None:
        """Add one record."""
        self._entry.write(line.encode() + b"\n")
        self._counts[self._kind] += 1
