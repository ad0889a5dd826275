"""When turns run: at once when their session is free, in order, a few at a time for each account.

This process's owner row is renewed here; queued turns that nobody woke (left by a dead process, or accepted by another
replica) and notes left by other replicas are looked for each second; a note also when its replica hints at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import ConstraintFailed, Database, Unit
from chassis.errors import StoreUnavailable
from chassis.hints import Touched
from chassis.tasks import Tasks
from context_svc import claims as claiming
from context_svc.claims import Claim, Claims
from context_svc.runs import Material, Runs, gather

log = telemetry.logger(__name__)

RENEWAL = 2.0  # seconds
LOOK_AROUND = 1.0  # seconds
LAST_COMMITS = 2.0  # seconds that turns have to be stored when they were cut off


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A session kept free, and one of its account's places, for a turn that is about to be claimed."""

    session_id: str
    account_id: str


@dataclass(slots=True)
class _Places:
    """How many turns of one account run here. `left` is set, and replaced, when one ends."""

    limit: int
    used: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def full(self) -> bool:
        return self.used >= self.limit


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
        self._accounts: dict[str, _Places] = {}
        self._taken: dict[str, bool] = {}  # sessions at work here; True: woken since it last looked
        self._unended: dict[str, Claim] = {}
        self._strays: frozenset[tuple[str, int]] = frozenset()
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

    def place(self, session_id: str, account_id: str) -> Place | None:
        """Keep the session and one of the account's places, if both are free: for a turn about to be claimed.

        It must be given to `start` or `give_back`.
        """
        places = self._places_of(account_id)
        if self._draining or session_id in self._taken or places.full:
            return None
        self._taken[session_id] = False
        places.used += 1
        return Place(session_id=session_id, account_id=account_id)

    def give_back(self, place: Place | None) -> None:
        """Nothing was claimed for this place."""
        self.start(place, None)

    def start(self, place: Place | None, material: Material | None) -> None:
        """Run what was claimed for this place, then whatever else its session has."""
        if place is None:
            return
        if material is None:
            self._leave(place.account_id)
            if self._taken.pop(place.session_id):
                self.wake(place.session_id, place.account_id)
            return
        self._tasks.spawn("run a session's turns", self._begin(place, material))

    def take(self, session_id: str, now_us: int) -> Unit[Material | None]:
        """Part of a unit: claim the session's oldest queued turn, if it may run, with all it is run with."""
        claim = yield from self._claims.take(session_id, now_us)
        return None if claim is None else (yield from gather(claim, now_us))

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

    async def look_again(self, touched: Touched) -> None:
        """Another process may have stopped a turn that runs here. A hint that is lost costs a second."""
        if any(touched.concerns(session_id) for session_id in self._taken):
            await self._stop_cancelled()

    async def drain(self, grace: float) -> None:
        """Take no more turns, wait at most `grace` seconds for those that run, and end what is left with what it said.

        What runs goes back to the queue at its next step boundary, if it comes to one. What is queued goes on where
        there is another process, or at the next start.
        """
        self._draining = True
        self._runs.give_back()
        if not await self._idle(grace):
            log.warning("turns were cut off", turns=len(self._taken))
            self._runs.cut_off()
            await self._idle(LAST_COMMITS)

    async def _idle(self, within: float) -> bool:
        """Whether no turn runs here any more, at the latest after some seconds."""
        try:
            async with asyncio.timeout(within):
                while self._taken:
                    await self._clock.sleep(0.05)
        except TimeoutError:
            return False
        return True

    async def _begin(self, place: Place, material: Material) -> None:
        self._taken[place.session_id] = True
        try:
            try:
                await self._perform(material)
            finally:
                self._leave(place.account_id)
            await self._drained_of(place.session_id, place.account_id)
        finally:
            del self._taken[place.session_id]

    async def _work(self, session_id: str, account_id: str) -> None:
        try:
            await self._drained_of(session_id, account_id)
        finally:
            del self._taken[session_id]

    async def _drained_of(self, session_id: str, account_id: str) -> None:
        """Run the session's turns until it has none that may run."""
        while self._taken[session_id] and not self._draining:
            self._taken[session_id] = False
            await self._enter(account_id)
            try:
                if (material := await self._next(session_id)) is not None:
                    self._taken[session_id] = True
                    await self._perform(material)
            except StoreUnavailable as error:
                log.warning("no turn could be claimed", error=error)
                return
            finally:
                self._leave(account_id)

    async def _next(self, session_id: str) -> Material | None:
        if self._draining:
            return None
        try:
            return await self._database.write(session_id, lambda: self.take(session_id, self._clock.now_us()))
        except ConstraintFailed:  # another replica was faster
            return None

    async def _perform(self, material: Material) -> None:
        if not await self._runs.perform(material):
            self._unended[material.claim.turn_id] = material.claim

    def _places_of(self, account_id: str) -> _Places:
        return self._accounts.setdefault(account_id, _Places(self._running_per_account))

    async def _enter(self, account_id: str) -> None:
        places = self._places_of(account_id)
        while places.full:
            await places.left.wait()
        places.used += 1

    def _leave(self, account_id: str) -> None:
        places = self._places_of(account_id)
        places.used -= 1
        places.left.set()
        places.left = asyncio.Event()

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
        await self._bury_strays()
        for claim in await self._database.read(lambda: claiming.orphans(self._database.engine, now_us)):
            await self._runs.bury(claim)
        await self._stop_cancelled()
        for session_id, account_id in await self._database.read(claiming.waiting_sessions):
            self.wake(session_id, account_id)

    async def _stop_cancelled(self) -> None:
        for turn_id, device_id in await self._database.read(
            lambda: claiming.cancellations(self._claims.owner)
        ):
            self._runs.stop(turn_id, device_id)

    async def _bury_strays(self) -> None:
        """End turns that this process holds and does not run: their claim was committed, and its answer lost.

        One that is just about to run looks the same, but not for two looks.
        """
        held = await self._database.read(lambda: claiming.held(self._claims.owner))
        strays = {
            (claim.turn_id, claim.attempt): claim
            for claim in held
            if claim.turn_id not in self._runs and claim.turn_id not in self._unended
        }
        for stray in strays.keys() & self._strays:
            await self._runs.bury(strays[stray])
        self._strays = frozenset(strays)
