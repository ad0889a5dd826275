"""The check of an upload that is whole: its bytes put together, counted, named by content, and kept."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, TypeAlias

from chassis import failpoints, ids
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import TokenRevoked
from chassis.tasks import Tasks
from media_svc import kinds, library, outbox, uploads
from media_svc.blobs import BlobMissing, Blobs
from media_svc.errors import MediaDigestMismatch, MediaTooLarge, MediaTypeUnsupported, Refusal, UploadNotFound
from media_svc.kinds import Found, Limits
from media_svc.library import Media
from media_svc.uploads import Announced, Upload

Verdict: TypeAlias = Found | Refusal


class Checks:
    """Checks uploads in the background, each once at a time. A check that breaks is begun again later.

    `work` is a folder for bytes on their way; what lies there has no name and goes with the process. `due` is
    set when a check has left something to sweep.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        tasks: Tasks,
        clock: Clock,
        *,
        limits: Limits,
        work: Path,
        due: asyncio.Event,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._tasks = tasks
        self._clock = clock
        self._limits = limits
        self._work = work
        self._due = due
        self._running: dict[str, asyncio.Task[Upload]] = {}

    def start(self, upload: Upload) -> asyncio.Task[Upload]:
        """The check of an upload in state CHECKING: begun, or the one that runs."""
        running = self._running.get(upload.id)
        if running is None:
            running = self._running[upload.id] = self._tasks.spawn("check an upload", self._check(upload))
            running.add_done_callback(lambda _: self._running.pop(upload.id, None))
        return running

    def sweep_soon(self) -> None:
        """Something was left that is to be swept."""
        self._due.set()

    async def wait(self, upload: Upload, patience: timedelta | None) -> Upload:
        """The upload after its check, or as it was when that takes longer than `patience`.

        Cancelling the wait does not stop the check. Raises what the check raised.
        """
        running = self.start(upload)
        await asyncio.wait({running}, timeout=None if patience is None else patience.total_seconds())
        return running.result() if running.done() else upload

    async def _check(self, upload: Upload) -> Upload:
        with tempfile.TemporaryFile(dir=self._work) as file:
            digest = await self._assemble(upload, file)
            verdict = await asyncio.to_thread(judge, file, digest, upload.announced, self._limits)
            match verdict:
                case Found():
                    ended = await self._keep(upload, verdict, file)
                case _:
                    ended = await self._refuse(upload, verdict)
        self._due.set()
        return ended

    async def _refuse(self, upload: Upload, refusal: Refusal) -> Upload:
        now = self._clock.now_us()
        return await self._database.write(upload.account, lambda: uploads.fail(upload, refusal, now))

    async def _assemble(self, upload: Upload, file: BinaryIO) -> str:
        """Put the parts into `file`; their SHA-256. A part that is missing shows in it."""
        digest = hashlib.sha256()
        for part in await self._database.read(lambda: uploads.parts(upload.id)):
            try:
                async for piece in self._blobs.read(part.blob_key, length=part.size):
                    await asyncio.to_thread(digest.update, piece)
                    await asyncio.to_thread(file.write, piece)
            except BlobMissing:
                break
        return digest.hexdigest()

    async def _keep(self, upload: Upload, found: Found, file: BinaryIO) -> Upload:
        media = self._fresh(upload, found)
        due = self._clock.now_us() + outbox.INTENT_US
        await self._database.write(upload.account, lambda: outbox.schedule(media.blob_key, due))
        file.seek(0)
        await self._blobs.put(media.blob_key, file)
        failpoints.reach("mid_upload_finalise_rename")
        now = self._clock.now_us()
        try:
            return await self._database.write(upload.account, lambda: uploads.finish(upload, media, now))
        except (TokenRevoked, UploadNotFound):  # the account or the upload went while its bytes were kept
            await self._database.write("sweep", lambda: outbox.schedule(media.blob_key, now))
            self._due.set()
            raise

    def _fresh(self, upload: Upload, found: Found) -> Media:
        return library.fresh(
            ids.uuid(),
            upload.account,
            found,
            name=upload.announced.file_name,
            size=upload.announced.size,
            sha256=upload.announced.sha256,
            local_only=upload.announced.local_only,
            now_us=self._clock.now_us(),
        )


def judge(file: BinaryIO, sha256: str, announced: Announced, limits: Limits) -> Verdict:
    """What the file is, or why it is refused."""
    size = file.seek(0, 2)
    if (size, sha256) != (announced.size, announced.sha256):
        return MediaDigestMismatch()
    found = kinds.identify(file, size, announced.mime_type)
    if found is None:
        return MediaTypeUnsupported()
    if size > limits.of(found.kind):
        return MediaTooLarge(metadata={"limit": str(limits.of(found.kind))})
    return found
