"""Group commit: one task takes what waits, has it committed as one batch, tells everyone in commit order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from chassis import failpoints, telemetry
from chassis.clock import Clock
from chassis.database import DatabaseMetrics, Unit
from chassis.errors import StoreUnavailable
from chassis.tasks import Tasks

log = telemetry.logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """A unit ran to its end; `value` is what it returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """A unit raised and was undone alone."""

    error: Exception


Outcome: TypeAlias = Done | Failed
UnitFactory: TypeAlias = Callable[[], Unit[Any]]


class Commit(Protocol):
    """Runs units in one transaction, each in a savepoint; returns when they are durable, an outcome each.

    Raises when nothing of the batch was kept, or when that cannot be known.
    """

    def __call__(self, units: Sequence[UnitFactory], /) -> Awaitable[Sequence[Outcome]]:
        """Commit one batch."""


@dataclass(frozen=True, slots=True)
class _Job:
    aggregate: str
    unit: UnitFactory
    committed: Callable[[Any], None] | None
    future: asyncio.Future[Any]


class Writer:
    """The only way work reaches the store. `run` is its loop; `close` lets it finish what it has taken."""

    def __init__(
        self,
        commit: Commit,
        clock: Clock,
        *,
        capacity: int = 512,
        batch: int = 256,
        touched: Callable[[Iterable[str]], None] | None = None,
    ) -> None:
        self._commit = commit
        self._touched = touched
        self._clock = clock
        self._batch_limit = batch
        self._waiting: asyncio.Queue[_Job | None] = asyncio.Queue(capacity + 1)  # one place for the end
        self._capacity = capacity
        self._closed = False
        self._batches = self._units = self._failed = 0
        self._seconds = self._last = self._longest = 0.0

    async def submit(
        self, aggregate: str, unit: Callable[[], Unit[T]], committed: Callable[[T], None] | None
    ) -> T:
        """Wait until the unit is durable; raises what it raised, or StoreUnavailable."""
        if self._closed or self._waiting.qsize() >= self._capacity:
            raise StoreUnavailable("the writer is closed" if self._closed else "the writer's queue is full")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Job(aggregate, unit, committed, future))
        return await future

    def close(self) -> None:
        """Take no more work. `run` returns when what waits is done."""
        if not self._closed:
            self._closed = True
            self._waiting.put_nowait(None)

    async def run(self) -> None:
        """Commit batches until closed."""
        open_ = True
        while open_:
            taken = [await self._waiting.get()]
            while not self._waiting.empty() and len(taken) < self._batch_limit:
                taken.append(self._waiting.get_nowait())
            open_ = None not in taken
            jobs = [job for job in taken if job is not None and not job.future.done()]
            if jobs:
                await self._perform(sorted(jobs, key=lambda job: job.aggregate))

    async def _perform(self, jobs: Sequence[_Job]) -> None:
        began = self._clock.monotonic()
        outcomes = await self._outcomes(jobs)
        self._count(outcomes, self._clock.monotonic() - began)
        failpoints.reach("after_commit_before_ack")
        if self._touched is not None:
            self._touched(
                job.aggregate
                for job, outcome in zip(jobs, outcomes, strict=True)
                if isinstance(outcome, Done)
            )
        for job, outcome in zip(jobs, outcomes, strict=True):
            _announce(job, outcome)
        for job, outcome in zip(jobs, outcomes, strict=True):
            _resume(job, outcome)

    async def _outcomes(self, jobs: Sequence[_Job]) -> Sequence[Outcome]:
        try:
            return await self._commit([job.unit for job in jobs])
        except asyncio.CancelledError:
            _fail_all(jobs, StoreUnavailable("the writer was stopped"))
            raise
        except Exception as error:  # noqa: BLE001 - the writer outlives every fault of the store
            log.error("a batch was not committed", error=error, units=len(jobs))
            return [Failed(StoreUnavailable("the batch was not committed")) for _ in jobs]

    def _count(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        self._batches += 1
        self._units += len(outcomes)
        self._failed += sum(isinstance(outcome, Failed) for outcome in outcomes)
        self._seconds += seconds
        self._last = seconds
        self._longest = max(self._longest, seconds)

    def metrics(self) -> DatabaseMetrics:
        """Counts and commit times since start."""
        return DatabaseMetrics(
            waiting=self._waiting.qsize(),
            batches=self._batches,
            units=self._units,
            failed=self._failed,
            commit_seconds=self._seconds,
            last_commit_seconds=self._last,
            longest_commit_seconds=self._longest,
        )


class Reads:
    """Runs reads that wait together in one go: handing work to a thread costs more than most reads do."""

    def __init__(self, perform: Commit, tasks: Tasks) -> None:
        self._perform = perform
        self._tasks = tasks
        self._waiting: list[_Job] = []
        self._busy = False
        self._closed = False

    def close(self) -> None:
        """Take no more work."""
        self._closed = True

    async def submit(self, unit: Callable[[], Unit[T]]) -> T:
        """The unit's result; raises what it raised, or StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job("", unit, None, future))
        if not self._busy:
            self._busy = True
            self._tasks.spawn("database reads", self._run())
        return await future

    async def _run(self) -> None:
        try:
            while jobs := [job for job in self._waiting if not job.future.done()]:
                self._waiting = []
                try:
                    outcomes = await self._perform([job.unit for job in jobs])
                except asyncio.CancelledError:
                    _fail_all([*jobs, *self._waiting], StoreUnavailable("the store was closed"))
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it was, whoever waits must hear of it
                    _fail_all(jobs, error)
                    continue
                for job, outcome in zip(jobs, outcomes, strict=True):
                    _resume(job, outcome)
        finally:
            self._busy = False


def _announce(job: _Job, outcome: Outcome) -> None:
    if job.committed is None or not isinstance(outcome, Done):
        return
    try:
        job.committed(outcome.value)
    except Exception as error:  # noqa: BLE001 - the work is durable: one reader's fault must not hide that
        log.error("a commit callback raised", error=error, aggregate=job.aggregate)


def _resume(job: _Job, outcome: Outcome) -> None:
    if job.future.done():
        return
    match outcome:
        case Done(value):
            job.future.set_result(value)
        case Failed(error):
            job.future.set_exception(error)


def _fail_all(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        _resume(job, Failed(error))
