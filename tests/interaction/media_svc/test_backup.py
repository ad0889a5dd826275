"""media_svc's part of a backup: files and rows go out as one stream and come back, but for what was deleted since."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis import ids
from chassis.clock import SystemClock
from chassis.database import Database, Statement, Unit
from media_svc import claims, library
from media_svc.arrivals import Arrivals, Arriving
from media_svc.backup import Backup, Finished, Header
from media_svc.blobs import BlobMissing, Blobs, open_blobs
from media_svc.claims import Claim
from media_svc.errors import ArchiveInvalid, BackupTooNew, MediaDigestMismatch
from media_svc.kinds import Found, Kind, Limits
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
    await hold(database, media, ids.uuid())
    return media


async def hold(database: Database, media: Media, claim_id: str, *, private: bool = False) -> None:
    wanted = Claim(
        account="anna", id=claim_id, session_id=f"of-{claim_id}", media_ids=(media.id,), excluded=private
    )
    await database.write("anna", lambda: claims.claim(wanted, SystemClock().now_us()))


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


@pytest.mark.requirement("CHAT-14", "OPS-5")
async def test_only_files_that_something_ordinary_holds_are_in_a_backup(
    database: Database, tmp_path: Path
) -> None:
    await database.migrate(MIGRATIONS)
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    backup = Backup(database, blobs, SystemClock(), tmp_path)
    both, private, nobody = [await keep(database, blobs, each) for each in ("both", "private", "nobody")]
    await hold(database, both, "hidden", private=True)
    for media in (private, nobody):
        await database.write("anna", lambda media=media: _let_go(media))  # type: ignore[misc]
    await hold(database, private, "hidden too", private=True)
    frames = [frame async for frame in backup.write("b1")]
    told = b"".join(frame for frame in frames if isinstance(frame, bytes))
    assert b"both" in told
    for trace in (b"private", b"nobody", b"hidden", private.id.encode(), nobody.id.encode()):
        assert trace not in told
    await backup.read(play(frames))
    assert await kept(database) == {both.id}
    assert await text_of(blobs, both) == "both"


@pytest.mark.requirement("CHAT-14", "OPS-5")
async def test_a_file_that_only_an_import_holds_is_in_no_backup(database: Database, tmp_path: Path) -> None:
    """Whether it belongs to a private session is known at the import's end."""
    await database.migrate(MIGRATIONS)
    blobs, limits = open_blobs(f"file://{tmp_path}/blobs"), Limits(image=100, audio=100, document=100)
    arrivals = Arrivals(database, blobs, SystemClock(), limits=limits, quota=100, work=tmp_path)
    words = b"on its way"
    digest = hashlib.sha256(words).hexdigest()
    arriving = Arriving(
        claim_id="import:0",
        id=ids.uuid(),
        file_name="words.txt",
        mime_type="text/plain",
        size=len(words),
        sha256=digest,
        upload_sha256=digest,
        local_only=False,
        create_us=1,
    )
    arrived = await arrivals.receive("anna", arriving, _chunks(words))
    assert await kept(database) == {arrived.media.id}
    backup = Backup(database, blobs, SystemClock(), tmp_path)
    told = b"".join([frame async for frame in backup.write("b1") if isinstance(frame, bytes)])
    assert words not in told
    assert arrived.media.id.encode() not in told


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _let_go(media: Media) -> Unit[None]:
    yield Statement("DELETE FROM claim WHERE media_id = :media", {"media": media.id})


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
