"""Work for later: durable rows, one timer loop, one owner at a time, retried with growing pauses, its result kept once.

A kind of work computes outside the store and answers with the change that it wants. That change and the job's end are
one commit, conditional on the claim: however often a job had to be begun, what it does to the store happens once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeAlias, assert_never

from chassis import telemetry
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Unit
from chassis.errors import ServiceError, StoreUnavailable
from chassis.tasks import Tasks
from context_svc import job_rows as rows
from context_svc.errors import JobNotFound
from context_svc.job_rows import Job, JobLost, JobState
from context_svc.paging import PageTokens, Query, page_size

log = telemetry.logger(__name__)

LOOK_AROUND = 1.0  # seconds
AT_ONCE = 4  # jobs that one process runs beside each other
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0  # seconds before another try
_SECOND = 1_000_000

Then: TypeAlias = Callable[[], None]
"""What to do on the event loop once the job's change is durable; must not raise."""


@dataclass(frozen=True, slots=True)
class Done:
    """The work is over, and need not have gone well: `state` and `reason` say so.

    `change` is a part of a unit, committed with the job's end, whose row it holds.
    """

    change: Callable[[int], Unit[Then | None]] | None = None
    state: JobState = JobState.DONE
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: look again after `seconds`. `change` is committed with it. This is no failed try."""

    seconds: float
    change: Callable[[int], Unit[Then | None]] | None = None


Result: TypeAlias = Done | Later


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How often a job is tried and how many seconds one try takes at most.

    `repeatable=False`: a try whose end is unknown is never repeated; the job ends in doubt. `tries=0`: for ever.
    """

    tries: int = 5
    seconds: float = 300.0
    repeatable: bool = True


class Kind(Protocol):
    """A kind of work, registered under its name."""

    name: str
    limits: Limits

    async def run(self, job: Job) -> Result:
        """Do the work of one job. A ServiceError, a timeout or any fault is a failed try.

        May be cancelled at any moment, and what it answers may come to nothing when the job was cancelled.
        """


class Cancelled(Protocol):
    """What else goes when a person cancels an open job of some kind."""

    def __call__(self, job: Job, now_us: int, /) -> Unit[Then | None]:
        """Part of the unit that cancels it; `job` is as it was before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPage:
    """A page of jobs; `next_token` is empty at the end."""

    jobs: Sequence[Job]
    next_token: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """A try that failed, and why: the name of an ErrorReason."""

    reason: str


class Timer:
    """Runs jobs that are due, of every kind it knows, while `running` lasts."""

    def __init__(self, *, database: Database, clock: Clock, owner: str, kinds: Iterable[Kind]) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._kinds = {kind.name: kind for kind in kinds}
        self._running: dict[tuple[str, int], asyncio.Task[Result]] = {}  # by job and attempt

    def __len__(self) -> int:
        return len(self._running)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Claim and run jobs while the block lasts. What is cut off at its end is begun again elsewhere."""
        async with Tasks() as works, Tasks() as loop:
            loop.spawn("run jobs", self._loop(works))
            yield

    def stop(self, job_id: str) -> None:
        """End a job of this process at once; one that is not here is not affected."""
        for (running, _), work in self._running.items():
            if running == job_id:
                work.cancel()

    async def _loop(self, works: Tasks) -> None:
        while True:
            try:
                await self._bury_the_dead()
                while len(works) < AT_ONCE and (job := await self._next()) is not None:
                    works.spawn("perform a job", self._perform(job))
            except StoreUnavailable as error:
                log.warning("no job could be claimed", error=error)
            await self._clock.sleep(LOOK_AROUND)

    async def _next(self) -> Job | None:
        names, engine, now_us = tuple(self._kinds), self._database.engine, self._clock.now_us()
        if not names:
            return None
        return await self._database.write("job", lambda: rows.take(names, self._owner, engine, now_us))

    async def _perform(self, job: Job) -> None:
        kind = self._kinds[job.kind]
        async with Tasks() as tasks:
            work = tasks.spawn("work on a job", _within(kind, job))
            self._running[job.id, job.attempts] = work
            try:
                await asyncio.wait({work})
                if not work.cancelled():
                    await self._keep(job, _outcome(work), kind.limits)
            finally:
                del self._running[job.id, job.attempts]

    async def _keep(self, job: Job, outcome: Result | _Failed, limits: Limits) -> None:
        """Store how a try went; a claim that was lost meanwhile leaves no trace."""
        now_us = self._clock.now_us()
        try:
            await self._database.write(
                job.session_id or job.id, lambda: _settle(job, outcome, limits, now_us), committed=_perform
            )
        except JobLost:
            log.info("a job was taken away", job=job.id, kind=job.kind)

    async def _bury_the_dead(self) -> None:
        now_us = self._clock.now_us()
        for job in await self._database.read(lambda: rows.orphans(self._database.engine, now_us)):
            if job.kind in self._kinds:
                self.stop(job.id)  # it may be this very process that was taken for dead
                await self._keep(job, _Failed("OWNER_LOST"), self._kinds[job.kind].limits)


class Jobs:
    """What a person sees of their jobs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        pages: PageTokens,
        stop: Callable[[str], None],
        cancelled: Mapping[str, Cancelled] = MappingProxyType({}),
    ) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages
        self._stop = stop
        self._cancelled = cancelled

    async def list_page(self, user: User, *, size: int, token: str, open_only: bool) -> JobPage:
        """Next to run first, then those that are over, newest first. Raises PageTokenInvalid."""
        query = Query(account=user.account, name="jobs", filters={"open_only": open_only})
        after = self._pages.read(query, token, (int, str))
        limit = page_size(size)
        found = await self._database.read(lambda: rows.page(user.account, after, limit + 1, open_only))
        shown = found[:limit]
        more = len(found) > limit
        return JobPage(
            jobs=shown,
            next_token=self._pages.issue(query, (shown[-1].rank, shown[-1].id)) if more else "",
        )

    async def cancel(self, user: User, job_id: str) -> Job:
        """Cancel an open job, also one that runs; one that is over stays as it is. Raises JobNotFound."""
        now_us = self._clock.now_us()
        job, _ = await self._database.write(
            job_id, lambda: self._cancel(user, job_id, now_us), committed=lambda done: _perform(done[1])
        )
        self._stop(job_id)
        return job

    def _cancel(self, user: User, job_id: str, now_us: int) -> Unit[tuple[Job, Then | None]]:
        before = yield from rows.lock(user.account, job_id)
        job = yield from rows.cancel(user.account, job_id, now_us)
        if job is None or before is None:
            raise JobNotFound
        follows = None if before.state.over else self._cancelled.get(job.kind)
        return job, (yield from follows(before, now_us)) if follows else None


async def _within(kind: Kind, job: Job) -> Result:
    async with asyncio.timeout(kind.limits.seconds):
        return await kind.run(job)


def _outcome(work: asyncio.Task[Result]) -> Result | _Failed:
    error = work.exception()
    match error:
        case None:
            return work.result()
        case TimeoutError():
            return _Failed("DEADLINE_EXCEEDED")
        case ServiceError():
            return _Failed(error.reason)
        case _:
            return _Failed("INTERNAL")


def _settle(job: Job, outcome: Result | _Failed, limits: Limits, now_us: int) -> Unit[Then | None]:
    yield from rows.hold(job)
    match outcome:
        case Done(change, state, reason):
            yield from rows.end(job, state, reason, now_us)
            return (yield from change(now_us)) if change else None
        case Later(seconds, change):
            horizon_us = round(seconds * _SECOND)
            yield from rows.put_back(job, run_us=now_us + horizon_us, horizon_us=horizon_us, failures=0)
            return (yield from change(now_us)) if change else None
        case _Failed(reason):
            yield from _fail(job, reason, limits, now_us)
            return None
        case _:
            assert_never(outcome)


def _fail(job: Job, reason: str, limits: Limits, now_us: int) -> Unit[None]:
    failures = job.failures + 1
    if not limits.repeatable:
        yield from rows.end(job, JobState.IN_DOUBT, reason, now_us)
    elif limits.tries and failures >= limits.tries:
        yield from rows.end(job, JobState.FAILED, reason, now_us)
    else:
        pause_us = round(pause(failures) * _SECOND)
        yield from rows.put_back(
            job, run_us=now_us + pause_us, horizon_us=pause_us, failures=failures, reason=reason
        )


def pause(failures: int) -> float:
    """Seconds before another try: 5, doubled each time, at most 600."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))


def _perform(then: Then | None) -> None:
    if then is not None:
        then()
