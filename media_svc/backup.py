"""The whole state of this room as one stream of bytes, and back.

Lines of JSON, each with a line end; behind a line that names a file come that file's bytes. ::

    {"blob": key, "size": n}  <n bytes>     every file that something holds, not private sessions alone
    {"table": …, "columns": […]} / […]      the rows (`chassis.dump`), after all files

A file that is deleted while the stream is on its way is left out, and so is its row. One that nothing holds yet may be
meant for a private session, and would be gone in a day.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from chassis import dump
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit, Value
from media_svc import outbox
from media_svc.blobs import BlobMissing, Blobs
from media_svc.errors import ArchiveInvalid, BackupTooNew, MediaDigestMismatch

FORMAT = 1
PIECE = 256 * 1024
OWN_TABLES = frozenset(
    {"schema_migration", "upload", "upload_part", "blob_removal", "erased_media", "erased_account"}
)
"""What belongs to this store and not to the state: uploads that are not whole among them."""

_KEPT_US = 8 * 86_400_000_000  # longer than any backup is kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What comes first. The time is in microseconds since 1970."""

    backup_id: str
    format: int
    snapshot_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What comes last: size and SHA-256 of all that came between."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How much there is now."""

    media: int
    documents: int


class Backup:
    """Writes this room's state, and puts a written one in its place."""

    def __init__(self, database: Database, blobs: Blobs, clock: Clock, work: Path) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._work = work

    async def write(self, backup_id: str) -> AsyncIterator[Header | bytes | Finished]:
        """The state as of now. Raises StoreUnavailable."""
        digest, size = hashlib.sha256(), 0
        yield Header(backup_id=backup_id, format=FORMAT, snapshot_us=self._clock.now_us())
        async for piece in self._pieces():
            digest.update(piece)
            size += len(piece)
            yield piece
        yield Finished(size=size, sha256=digest.hexdigest())

    async def read(self, frames: AsyncIterator[Header | bytes | Finished]) -> Counts:
        """Put a state in the place of this one: all of it or nothing.

        Raises BackupTooNew, ArchiveInvalid, MediaDigestMismatch and StoreUnavailable.
        """
        header = await anext(frames, None)
        if not isinstance(header, Header):
            raise ArchiveInvalid("the header is missing")
        if header.format > FORMAT:
            raise BackupTooNew
        with tempfile.TemporaryFile(dir=self._work) as file:
            await _received(frames, file)
            file.seek(0)
            return await self._put_in_place(file, header.snapshot_us)

    async def _pieces(self) -> AsyncIterator[bytes]:
        with tempfile.TemporaryFile(dir=self._work) as rows:
            async with self._database.frozen(self._work) as state:
                written: set[Value] = set()
                for key, size in await state.read(_held_files):
                    with suppress(BlobMissing):
                        async for piece in self._file(key, size):
                            yield piece
                        written.add(key)
                await state.read(lambda: _rows(state, rows, written))
            rows.seek(0)
            while piece := rows.read(PIECE):
                yield piece

    async def _file(self, key: str, size: int) -> AsyncIterator[bytes]:
        named = False
        async for piece in self._blobs.read(key, length=size):
            if not named:
                yield json.dumps({"blob": key, "size": size}).encode() + b"\n"
                named = True
            yield piece

    async def _put_in_place(self, file: BinaryIO, snapshot_us: int) -> Counts:
        keys: list[str] = []
        lines: list[str] = []
        due = self._clock.now_us() + outbox.INTENT_US
        for line in iter(file.readline, b""):
            named = _blob(line)
            if named is None:
                lines.append(line.decode())
                continue
            key, size = named
            content = file.read(size)
            await self._database.write("restore", lambda key=key: outbox.schedule(key, due))  # type: ignore[misc]
            await self._blobs.put(key, content)
            keys.append(key)
        try:
            return await self._database.write(
                "restore",
                lambda: _replace(self._database, lines, keys, snapshot_us, self._clock.now_us()),
            )
        except dump.DumpInvalid as error:
            raise ArchiveInvalid(str(error)) from error


async def _received(frames: AsyncIterator[Header | bytes | Finished], file: BinaryIO) -> None:
    digest, size = hashlib.sha256(), 0
    async for frame in frames:
        match frame:
            case bytes():
                digest.update(frame)
                size += len(frame)
                await asyncio.to_thread(file.write, frame)
            case Finished():
                if (frame.size, frame.sha256) != (size, digest.hexdigest()):
                    raise MediaDigestMismatch
                return
            case Header():
                raise ArchiveInvalid("a second header")
    raise ArchiveInvalid("the end is missing")


def _blob(line: bytes) -> tuple[str, int] | None:
    try:
        told = json.loads(line)
    except ValueError as error:
        raise ArchiveInvalid("a line is not JSON") from error
    match told:
        case {"blob": str(key), "size": int(size)} if key.startswith("kept/") and ".." not in key:
            return key, size
        case {"blob": _}:
            raise ArchiveInvalid("a file of another kind")
    return None


def _files() -> Unit[list[tuple[str, int]]]:
    rows = yield Statement("SELECT blob_key, size FROM media ORDER BY id")
    return [(row["blob_key"], row["size"]) for row in rows]


def _held_files() -> Unit[list[tuple[str, int]]]:
    rows = yield Statement(
        "SELECT blob_key, size FROM media WHERE EXISTS"
        " (SELECT 1 FROM claim WHERE claim.media_id = media.id AND claim.excluded = 0) ORDER BY id"
    )
    return [(row["blob_key"], row["size"]) for row in rows]


def _rows(state: Database, file: BinaryIO, written: Collection[Value]) -> Unit[dict[str, int]]:
    def leave(table: str, row: Mapping[str, Value]) -> bool:
        if table == "claim":
            return bool(row["excluded"])
        return table == "media" and row["blob_key"] not in written

    return dump.dump(
        state.engine, lambda line: file.write(line.encode() + b"\n"), without=OWN_TABLES, leave=leave
    )


def _replace(
    database: Database, lines: list[str], keys: list[str], snapshot_us: int, now_us: int
) -> Unit[Counts]:
    before = yield from _files()
    noted = yield Statement(
        "SELECT id, erase_us FROM erased_media WHERE erase_us > :old", {"old": now_us - _KEPT_US}
    )
    yield Statement("DELETE FROM upload")
    yield from dump.load(database.engine, lines, keep=OWN_TABLES)
    for key in keys:
        yield Statement("DELETE FROM blob_removal WHERE blob_key = :key", {"key": key})
    for row in noted:
        if row["erase_us"] > snapshot_us:
            yield Statement("DELETE FROM media WHERE id = :id", {"id": row["id"]})
    yield Statement("DELETE FROM erased_media")
    for row in noted:
        yield Statement(
            "INSERT INTO erased_media (id, erase_us) VALUES (:id, :at)",
            {"id": row["id"], "at": row["erase_us"]},
        )
    kept = {key for key, _ in (yield from _files())}
    for key in {key for key, _ in before} | set(keys):
        if key not in kept:
            yield from outbox.schedule(key, now_us)
    return Counts(media=len(kept), documents=0)
