"""Upkeep: what the store needs done now and then, by one job for all of it.

Logs are compacted, private sessions end, money set aside for runs that vanished is freed, and what is left of gone
messages leaves the index. As in `retention`, a clock that jumped must have stood for a while before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Unit
from context_svc import job_rows
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Later, Limits, Result

KIND = "upkeep"
EVERY = 600.0  # seconds between two looks
DOUBT = 3_600.0  # seconds that a surprising time must have stood
_SECOND = 1_000_000


class Chore(Protocol):
    """Something to be done now and then."""

    async def run(self, now_us: int) -> bool:
        """Do it; whether something was removed from the store."""


class Upkeep:
    """The kind of job that does the chores. `sweeps` are units, run at each look."""

    name = KIND
    limits = Limits(tries=0, seconds=600.0)

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        chores: tuple[Chore, ...],
        sweeps: tuple[Callable[[int], Unit[None]], ...],
        clean: Callable[[], Unit[bool]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._chores = chores
        self._sweeps = sweeps
        self._clean = clean
        self._owed = (
            True  # a look may have been cut off between removing and cleaning, before this process began too
        )

    async def prepare(self) -> None:
        """See that the job exists; one that was there goes on as it was."""
        now_us = self._clock.now_us()
        job = NewJob(id=ids.uuid(), kind=KIND, subject="", run_us=now_us)
        await self._database.write(KIND, lambda: job_rows.add(job, now_us))

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        now_us = self._clock.now_us()
        if now_us - job.run_us > DOUBT * _SECOND:
            return Later(DOUBT)
        owed, self._owed = self._owed, True
        removed = [await chore.run(now_us) for chore in self._chores]
        for sweep in self._sweeps:
            await self._database.write(KIND, lambda sweep=sweep: sweep(now_us))  # type: ignore[misc]
        removed.append(await self._database.write(KIND, self._clean))
        if owed or any(removed):
            await self._database.scrub()
        self._owed = False
        return Later(EVERY)
