"""media_svc's part of a backup: files and rows go out as one stream and come back, but for what was deleted since."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis import ids
from chassis.clock import SystemClock
from chassis.database import Database, Statement, Unit
from media_svc import library
from media_svc.backup import Backup, Finished, Header
from media_svc.blobs import BlobMissing, Blobs, open_blobs
from media_svc.errors import ArchiveInvalid, BackupTooNew, MediaDigestMismatch
from media_svc.kinds import Found, Kind
from media_svc.library import Media
from media_svc.schema import MIGRATIONS

Frame = Header | bytes | Finished


async def keep(database: Database, blobs: Blobs, text: str) -> Media:
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    media = library.fresh(
        ids.uuid(),
        "anna",
        Found(kind=Kind.DOCUMENT, mime_type="text/plain"),
        name="words.txt",
        size=len(content),
        sha256=digest,
        local_only=False,
        now_us=SystemClock().now_us(),
    )
    await blobs.put(media.blob_key, content)
    await database.write("anna", lambda: library.add(media))
    return media


async def kept(database: Database) -> set[str]:
    page = await database.read(lambda: library.page("anna", kind=None, size=50, token="", now_us=1))
    return {media.id for media in page.media}


async def play(frames: list[Frame]) -> AsyncIterator[Frame]:
    for frame in frames:
        yield frame


async def text_of(blobs: Blobs, media: Media) -> str:
    return b"".join([piece async for piece in blobs.read(media.blob_key, length=media.size)]).decode()


@pytest.mark.requirement("OPS-5")
async def test_files_come_back_with_their_bytes_but_not_what_was_deleted_since(
    database: Database, tmp_path: Path
) -> None:
    await database.migrate(MIGRATIONS)
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    backup = Backup(database, blobs, SystemClock(), tmp_path)
    stays, goes = await keep(database, blobs, "stays\nhere"), await keep(database, blobs, "goes")
    frames = [frame async for frame in backup.write("b1")]
    later = await keep(database, blobs, "later")
    await database.write("anna", lambda: library.delete("anna", goes.id, allow_missing=False, now_us=2))
    await blobs.remove(stays.blob_key)  # the machine lost it
    counts = await backup.read(play(frames))
    assert (counts.media, await kept(database)) == (1, {stays.id})
    assert await text_of(blobs, stays) == "stays\nhere"
    due = await database.read(lambda: _due())
    assert due == {goes.blob_key, later.blob_key}

    one_lost = [frame async for frame in backup.write("b2")]
    await blobs.remove(stays.blob_key)
    assert len([frame async for frame in backup.write("b3")]) < len(one_lost)
    with pytest.raises(BlobMissing):
        await text_of(blobs, stays)


@pytest.mark.requirement("OPS-5")
async def test_what_is_not_whole_changes_nothing(database: Database, tmp_path: Path) -> None:
    await database.migrate(MIGRATIONS)
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    backup = Backup(database, blobs, SystemClock(), tmp_path)
    await keep(database, blobs, "in the backup")
    frames = [frame async for frame in backup.write("b1")]
    here = await kept(database) | {(await keep(database, blobs, "afterwards")).id}
    header, *pieces, finished = frames
    for spoilt, error in (
        ([header, *pieces], ArchiveInvalid),
        ([header, *pieces[:-1], finished], MediaDigestMismatch),
        ([*pieces, finished], ArchiveInvalid),
        ([Header(backup_id="b", format=99, snapshot_us=0), *pieces, finished], BackupTooNew),
    ):
        with pytest.raises(error):
            await backup.read(play(spoilt))
    assert await kept(database) == here


def _due() -> Unit[set[str]]:
    rows = yield Statement("SELECT blob_key FROM blob_removal")
    return {row["blob_key"] for row in rows}
