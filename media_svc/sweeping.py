"""What is due: bytes to be removed, uploads and files whose time is over, checks that a crash interrupted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import StoreUnavailable
from media_svc import library, outbox, uploads
from media_svc.blobs import Blobs
from media_svc.checking import Checks

INTERVAL = timedelta(seconds=30)

log = telemetry.logger(__name__)


class Sweeper:
    """Sweeps every 30 s, and at once when it is nudged. Several replicas may sweep at a time."""

    def __init__(
        self, database: Database, blobs: Blobs, checks: Checks, clock: Clock, due: asyncio.Event
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._checks = checks
        self._clock = clock
        self._due = due

    def nudge(self) -> None:
        """Something is due now."""
        self._due.set()

    async def run(self) -> None:
        """Sweep until cancelled. A store that fails is asked again at the next round."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("a sweep was put off", why=error.internal)
            try:
                await asyncio.wait_for(self._due.wait(), INTERVAL.total_seconds())
            except TimeoutError:
                continue

    async def sweep(self) -> None:
        """Do everything that is due."""
        self._due.clear()
        now = self._clock.now_us()
        for upload in await self._database.read(lambda: uploads.unchecked(now)):
            self._checks.start(upload)
        while await self._database.write("sweep", lambda: uploads.expire(now)):
            continue
        while await self._database.write("sweep", lambda: library.expire(now)):
            continue
        while keys := await self._database.write("sweep", lambda: outbox.take_due(now)):
            for key in keys:
                await self._remove(key)

    async def _remove(self, key: str) -> None:
        try:
            await self._blobs.remove(key)
        except StoreUnavailable as error:
            log.warning("a removal was put off", why=error.internal)
            return
        await self._database.write("sweep", lambda: outbox.done(key))
