"""When turns run: at once when their session is free, in order, a few at a time for each account.

This process's owner row is renewed here; queued turns that nobody woke (left by a dead process, or accepted by another
replica) and notes left by other replicas are looked for each second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import ConstraintFailed, Database
from chassis.errors import StoreUnavailable
from chassis.tasks import Tasks
from context_svc import claims as claiming
from context_svc.claims import Claim, Claims
from context_svc.runs import Runs

log = telemetry.logger(__name__)

RENEWAL = 2.0  # seconds
LOOK_AROUND = 1.0  # seconds


class Schedule:
    """Takes queued turns of this store and runs them in this process."""

    def __init__(
        self, *, database: Database, claims: Claims, runs: Runs, clock: Clock, running_per_account: int
    ) -> None:
        self._database = database
        self._claims = claims
        self._runs = runs
        self._clock = clock
        self._running_per_account = running_per_account
        self._places: dict[str, asyncio.Semaphore] = {}
        self._taken: dict[str, bool] = {}  # sessions at work here; True: woken since it last looked
        self._unended: dict[str, Claim] = {}
        self._tasks = Tasks()
        self._draining = False

    def wake(self, session_id: str, account_id: str) -> None:
        """A turn of this session was queued, or may be taken now."""
        if self._draining:
            return
        if session_id in self._taken:
            self._taken[session_id] = True
            return
        self._taken[session_id] = True
        self._tasks.spawn("run a session's turns", self._work(session_id, account_id))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Claim and run turns while the block lasts; then take no more and let the running ones end."""
        await self._renew()
        if self._database.engine == "sqlite":
            await self._database.write("owner", lambda: claiming.outlive(self._claims.owner))
        async with Tasks() as tasks:
            tasks.spawn("renew the owner", self._every(RENEWAL, self._renew))
            tasks.spawn("look around", self._every(LOOK_AROUND, self._look_around))
            try:
                yield
            finally:
                await self._tasks.aclose()

    async def drain(self, grace: float) -> None:
        """Take no more turns and wait at most `grace` seconds for those that run."""
        self._draining = True
        try:
            async with asyncio.timeout(grace):
                while self._taken:
                    await self._clock.sleep(0.05)
        except TimeoutError:
            log.warning("turns were cut off", turns=len(self._taken))

    async def _work(self, session_id: str, account_id: str) -> None:
        try:
            while self._taken[session_id] and not self._draining:
                self._taken[session_id] = False
                async with self._place(account_id):
                    claim = await self._take(session_id)
                    if claim is not None:
                        self._taken[session_id] = True
                        await self._perform(claim)
        except StoreUnavailable as error:
            log.warning("no turn could be claimed", error=error)
        finally:
            del self._taken[session_id]

    async def _take(self, session_id: str) -> Claim | None:
        if self._draining:
            return None
        try:
            return await self._database.write(
                session_id, lambda: self._claims.take(session_id, self._clock.now_us())
            )
        except ConstraintFailed:  # another replica was faster
            return None

    async def _perform(self, claim: Claim) -> None:
        if not await self._runs.perform(claim):
            self._unended[claim.turn_id] = claim

    def _place(self, account_id: str) -> asyncio.Semaphore:
        return self._places.setdefault(account_id, asyncio.Semaphore(self._running_per_account))

    async def _every(self, seconds: float, act: object) -> None:
        while True:
            try:
                await act()  # type: ignore[operator]
            except StoreUnavailable as error:
                log.warning("the store did not answer", error=error)
            await self._clock.sleep(seconds)

    async def _renew(self) -> None:
        now_us = self._clock.now_us()
        await self._database.write(
            "owner", lambda: claiming.renew(self._claims.owner, self._database.engine, now_us)
        )

    async def _look_around(self) -> None:
        now_us = self._clock.now_us()
        for claim in [*self._unended.values()]:
            await self._runs.bury(claim)
            del self._unended[claim.turn_id]
        for claim in await self._database.read(lambda: claiming.orphans(self._database.engine, now_us)):
            await self._runs.bury(claim)
        for turn_id, device_id in await self._database.read(
            lambda: claiming.cancellations(self._claims.owner)
        ):
            self._runs.stop(turn_id, device_id)
        for session_id, account_id in await self._database.read(claiming.waiting_sessions):
            self.wake(session_id, account_id)
