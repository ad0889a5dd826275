"""Files of an archive that is imported: checked like uploads, kept under the id, name and time that they had."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.errors import StoreUnavailable, TokenRevoked
from media_svc import kinds, library, outbox, uploads
from media_svc.blobs import Blobs, kept_key
from media_svc.errors import MediaDigestMismatch, MediaTooLarge, MediaTypeUnsupported
from media_svc.kinds import Found, Limits
from media_svc.library import Media


@dataclass(frozen=True, kw_only=True, slots=True)
class Arriving:
    """What an archive says of a file. `claim_id` holds it from the beginning."""

    claim_id: str
    id: str
    file_name: str
    mime_type: str
    size: int
    sha256: str
    upload_sha256: str
    local_only: bool
    create_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """A file that is kept; `added` unless the account had these bytes."""

    media: Media
    added: bool


class Arrivals:
    """Takes in files of archives. `work` is a folder for bytes on their way; they have no name there."""

    def __init__(
        self, database: Database, blobs: Blobs, clock: Clock, *, limits: Limits, quota: int, work: Path
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._limits = limits
        self._quota = quota
        self._work = work

    async def receive(self, account: str, arriving: Arriving, chunks: AsyncIterator[bytes]) -> Arrived:
        """Take a file in. Again it answers the same.

        Raises MediaTooLarge, MediaTypeUnsupported, MediaDigestMismatch, QuotaExceeded and TokenRevoked.
        """
        if arriving.size > self._limits.largest:
            raise MediaTooLarge(metadata={"limit": str(self._limits.largest)})
        with tempfile.TemporaryFile(dir=self._work) as file:
            found = await self._checked(arriving, chunks, file)
            now = self._clock.now_us()
            known = await self._database.write(
                account, lambda: _known(account, arriving, quota=self._quota, now_us=now)
            )
            return known or await self._keep(account, arriving, found, file)

    async def _checked(self, arriving: Arriving, chunks: AsyncIterator[bytes], file: BinaryIO) -> Found:
        digest, size = hashlib.sha256(), 0
        async for chunk in chunks:
            size += len(chunk)
            if size > arriving.size:
                raise MediaDigestMismatch
            await asyncio.to_thread(digest.update, chunk)
            await asyncio.to_thread(file.write, chunk)
        if (size, digest.hexdigest()) != (arriving.size, arriving.sha256):
            raise MediaDigestMismatch
        found = await asyncio.to_thread(kinds.identify, file, size, arriving.mime_type)
        if found is None:
            raise MediaTypeUnsupported
        if size > self._limits.of(found.kind):
            raise MediaTooLarge(metadata={"limit": str(self._limits.of(found.kind))})
        return found

    async def _keep(self, account: str, arriving: Arriving, found: Found, file: BinaryIO) -> Arrived:
        fresh, now = ids.uuid(), self._clock.now_us()
        key = kept_key(account, arriving.sha256, fresh)
        await self._database.write(account, lambda: outbox.schedule(key, now + outbox.INTENT_US))
        file.seek(0)
        await self._blobs.put(key, file)
        media = Media(
            id=arriving.id or fresh,
            account=account,
            found=found,
            file_name=arriving.file_name,
            size=arriving.size,
            sha256=arriving.sha256,
            upload_sha256=arriving.upload_sha256 or arriving.sha256,
            local_only=arriving.local_only,
            blob_key=key,
            create_us=min(arriving.create_us, now),
            expire_us=None,
        )
        try:
            return await self._database.write(account, lambda: _finish(media, fresh, arriving.claim_id, now))
        except TokenRevoked:  # the account went while its bytes were kept
            await self._database.write("sweep", lambda: outbox.schedule(key, now))
            raise


def _known(account: str, arriving: Arriving, *, quota: int, now_us: int) -> Unit[Arrived | None]:
    """The file, if the account has it. Raises QuotaExceeded when there is no room for it."""
    yield from library.lock(account, now_us)
    kept = yield from library.seen_again(
        account,
        arriving.upload_sha256 or arriving.sha256,
        local_only=arriving.local_only,
        now_us=now_us,
    )
    if kept is None:
        yield from uploads.check_quota(account, arriving.size, quota)
        return None
    yield from _claim(account, arriving.claim_id, kept)
    return Arrived(media=kept, added=False)


def _finish(media: Media, fresh: str, claim_id: str, now_us: int) -> Unit[Arrived]:
    yield from library.lock(media.account, now_us)
    kept = yield from library.seen_again(
        media.account, media.upload_sha256, local_only=media.local_only, now_us=now_us
    )
    if kept is not None:
        yield from outbox.schedule(media.blob_key, now_us)
        yield from _claim(media.account, claim_id, kept)
        return Arrived(media=kept, added=False)
    if not (yield from outbox.withdraw(media.blob_key)):
        raise StoreUnavailable("the imported bytes were swept")
    taken = yield Statement("SELECT 1 AS one FROM media WHERE id = :id", {"id": media.id})
    if taken:
        media = replace(media, id=fresh)
    yield from library.add(media)
    yield from _claim(media.account, claim_id, media)
    return Arrived(media=media, added=True)


def _claim(account: str, claim_id: str, media: Media) -> Unit[None]:
    """Let the import hold the file, in no backup: what it belongs to is not known yet."""
    yield Statement(
        "INSERT INTO claim (account, id, media_id, position, session_id, excluded)"
        " VALUES (:account, :id, :media, 0, '', 1) ON CONFLICT (account, id, media_id) DO NOTHING",
        {"account": account, "id": claim_id, "media": media.id},
    )
    yield Statement("UPDATE media SET expire_us = NULL WHERE id = :id", {"id": media.id})
