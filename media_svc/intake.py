"""Taking files in: by chunks that may be sent again, or in one stream that is the same thing in one call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import TokenRevoked
from media_svc import errors, outbox, uploads
from media_svc.blobs import Blobs, part_key
from media_svc.checking import Checks
from media_svc.errors import MediaDigestMismatch, MediaTooLarge, UploadNotFound
from media_svc.kinds import Limits
from media_svc.library import Media
from media_svc.uploads import Announced, Part, State, Upload

_PART = 1024 * 1024  # bytes of a stream that become durable together
_PATIENCE = timedelta(seconds=10)  # how long an answer waits for the check; the contract lets it be CHECKING


class Intake:
    """Uploads of all people. Every id of somebody else is unknown."""

    def __init__(
        self, database: Database, blobs: Blobs, checks: Checks, clock: Clock, *, limits: Limits, quota: int
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._checks = checks
        self._clock = clock
        self._limits = limits
        self._quota = quota

    async def open(self, account: str, announced: Announced) -> Upload:
        """Begin an upload, or find the one of the same request id with what has arrived.

        Raises MediaTooLarge, QuotaExceeded and IdempotencyKeyReused.
        """
        if announced.size > self._limits.largest:
            raise MediaTooLarge(metadata={"limit": str(self._limits.largest)})
        now, fresh = self._clock.now_us(), ids.uuid()
        return await self._database.write(
            account, lambda: uploads.open_upload(account, fresh, announced, quota=self._quota, now_us=now)
        )

    async def find(self, account: str, upload_id: str) -> Upload:
        """How far an upload is. Raises UploadNotFound."""
        now = self._clock.now_us()
        upload = await self._database.read(lambda: uploads.find(account, upload_id, now))
        if upload.state is State.CHECKING:
            self._checks.start(upload)
        return upload

    async def write(self, account: str, upload_id: str, offset: int, chunk: bytes) -> Upload:
        """Add a chunk; on return it is durable. With the last one comes the outcome, if it comes soon.

        Raises UploadNotFound and OffsetMismatch.
        """
        upload = await self._append(await self.find(account, upload_id), offset, chunk)
        return await self._outcome(upload, _PATIENCE)

    async def receive(self, account: str, announced: Announced, chunks: AsyncIterator[bytes]) -> Media:
        """Take a whole stream. One that is cut can be resumed by its request id.

        Raises as `open` does, and the Refusal of the file.
        """
        upload = await self.open(account, announced)
        sent = 0
        async for piece in _gathered(chunks):
            upload = await self._append(upload, sent, piece)
            sent += len(piece)
            if upload.state is State.FAILED or sent > announced.size:
                break
        if upload.state is State.RECEIVING:
            upload = await self._refuse(upload)
        upload = await self._outcome(upload, None)
        if upload.media is None:
            raise errors.refusal(upload.failure or MediaDigestMismatch.reason)
        return upload.media

    async def _append(self, upload: Upload, offset: int, chunk: bytes) -> Upload:
        known = uploads.beginning(upload, offset, len(chunk))
        if known is None:
            return upload
        if offset + len(chunk) > upload.announced.size:
            return await self._refuse(upload)
        part = Part(position=upload.received, size=len(chunk) - known, blob_key=part_key(upload.id))
        await self._blobs.put(part.blob_key, chunk[known:])
        now = self._clock.now_us()
        try:
            return await self._database.write(
                upload.account, lambda: uploads.append(upload.account, upload.id, part, now)
            )
        except (TokenRevoked, UploadNotFound):  # it went while its bytes were kept
            await self._database.write("sweep", lambda: outbox.schedule(part.blob_key, now))
            self._checks.sweep_soon()
            raise

    async def _refuse(self, upload: Upload) -> Upload:
        now = self._clock.now_us()
        return await self._database.write(
            upload.account, lambda: uploads.fail(upload, MediaDigestMismatch(), now)
        )

    async def _outcome(self, upload: Upload, patience: timedelta | None) -> Upload:
        return await self._checks.wait(upload, patience) if upload.state is State.CHECKING else upload


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces worth a commit."""
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        if len(waiting) >= _PART:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
