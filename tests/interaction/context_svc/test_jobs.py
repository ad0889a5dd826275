"""Work for later: due jobs run once, on one replica, are tried again, survive a restart and any jump of the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from chassis import ids
from chassis.call import User
from chassis.database import Database, Statement, Unit
from chassis.testing import FakeClock, eventually
from context_svc import claims as claiming
from context_svc import job_rows
from context_svc.errors import JobNotFound, PeerUnavailable
from context_svc.job_rows import Job, JobState, NewJob
from context_svc.jobs import Done, Jobs, Later, Limits, Result, Then, Timer, pause
from context_svc.paging import PageTokens
from context_svc.schema import MIGRATIONS

ANNA = User(account="anna", sign_in="s", scopes=frozenset(), expires_at_us=2**60)
BERT = replace(ANNA, account="bert")
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


class Work:
    """A kind of work that a test plays; counts its tries."""

    name = "work"

    def __init__(self, play: Callable[[Job], Awaitable[Result]] | None = None, **limits: object) -> None:
        self.limits = Limits(**limits)  # type: ignore[arg-type]
        self.tried: list[str] = []
        self._play = play

    async def run(self, job: Job) -> Result:
        self.tried.append(job.subject)
        return await self._play(job) if self._play else Done(_noted(job))


def _noted(job: Job) -> Callable[[int], Unit[Then | None]]:
    def change(now_us: int) -> Unit[Then | None]:
        yield Statement("INSERT INTO meta (key, value) VALUES (:key, 'done')", {"key": job.id})
        return None

    return change


class World:
    """A store, a clock, and timers on them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FakeClock()
        self.jobs = Jobs(database, self.clock, PageTokens(b"k" * 32), self.stop)
        self.timers: list[Timer] = []

    def stop(self, job_id: str) -> None:
        for timer in self.timers:
            timer.stop(job_id)

    async def add(self, subject: str = "s", *, after: timedelta = timedelta(0), **fields: object) -> str:
        new = NewJob(
            id=ids.uuid(),
            kind="work",
            subject=subject,
            account_id=str(fields.pop("account", "anna")),
            run_us=self.clock.now_us() + round(after.total_seconds() * 1e6),
            **fields,  # type: ignore[arg-type]
        )
        await self.database.write(new.id, lambda: job_rows.add(new, self.clock.now_us()))
        return new.id

    @asynccontextmanager
    async def timing(self, work: Work, owner: str = "one") -> AsyncIterator[None]:
        timer = Timer(database=self.database, clock=self.clock, owner=owner, kinds=[work])
        self.timers.append(timer)
        await self.database.write("owner", lambda: _alive(owner))
        async with timer.running():
            await self.clock.asleep()
            yield

    async def listed(self, user: User = ANNA) -> Sequence[Job]:
        return (await self.jobs.list_page(user, size=0, token="", open_only=False)).jobs

    async def comes_to(self, job_id: str, state: JobState, attempts: int = 1) -> Job:
        """Let seconds pass until the job stands there; at most ten of them."""
        for _ in range(10):
            found = next(job for job in await self.listed() if job.id == job_id)
            if (found.state, found.attempts) == (state, attempts):
                return found
            await self.clock.advance(SECOND)
            await self.clock.asleep()
        raise AssertionError(f"{found.state.name} after {found.attempts} attempts")

    async def notes(self) -> int:
        return await self.database.read(lambda: _count("SELECT count(*) AS n FROM meta WHERE value = 'done'"))


def _count(sql: str) -> Unit[int]:
    rows = yield Statement(sql)
    return int(rows[0]["n"])


def _taken_away(job_id: str) -> Unit[None]:
    yield Statement("UPDATE job SET state = 1, owner = NULL WHERE id = :id", {"id": job_id})


def _alive(owner: str) -> Unit[None]:
    yield Statement(
        "INSERT INTO owner (id, expire_us) VALUES (:id, :far) ON CONFLICT (id) DO NOTHING",
        {"id": owner, "far": 2**61},
    )


@pytest.fixture
async def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose replicas agree on the test's own clock."""

    def now(engine: object, now_us: int) -> Unit[int]:
        yield Statement("SELECT 1 AS one")
        return now_us

    monkeypatch.setattr(job_rows, "database_now", now)
    monkeypatch.setattr(claiming, "database_now", now)
    await database.migrate(MIGRATIONS)
    return World(database)


@pytest.mark.requirement("AGT-9")
async def test_a_job_runs_when_it_is_due_and_its_change_is_kept_once(world: World) -> None:
    work = Work()
    job = await world.add(after=timedelta(hours=1))
    async with world.timing(work):
        await world.clock.advance(timedelta(minutes=59))
        assert work.tried == []
        await world.clock.advance(timedelta(minutes=1))
        done = await world.comes_to(job, JobState.DONE)
    assert (work.tried, await world.notes(), done.reason) == (["s"], 1, "")


@pytest.mark.requirement("AGT-9")
async def test_two_replicas_run_each_of_twenty_jobs_once(world: World) -> None:
    one, two = Work(), Work()
    for number in range(20):
        await world.add(str(number))
    async with world.timing(one, "one"), world.timing(two, "two"):
        for _ in range(30):
            if await world.notes() == 20:
                break
            await world.clock.advance(SECOND)
            await world.clock.asleep(2)
    assert sorted(one.tried + two.tried) == sorted(str(number) for number in range(20))
    assert await world.notes() == 20


@pytest.mark.requirement("AGT-9")
async def test_a_failed_try_is_repeated_after_growing_pauses_and_not_for_ever(world: World) -> None:
    async def fails(job: Job) -> Result:
        raise PeerUnavailable("nobody there")

    work = Work(fails, tries=2)
    job = await world.add()
    async with world.timing(work):
        again = await world.comes_to(job, JobState.SCHEDULED)
        assert (again.reason, again.run_us > world.clock.now_us()) == ("PEER_UNAVAILABLE", True)
        over = await world.comes_to(job, JobState.FAILED, attempts=2)
    assert (over.reason, len(work.tried)) == ("PEER_UNAVAILABLE", 2)


def test_pauses_double_from_five_seconds_to_ten_minutes() -> None:
    assert [pause(failures) for failures in (1, 2, 3, 9)] == [5, 10, 20, 600]


@pytest.mark.requirement("AGT-9")
async def test_work_that_faults_is_a_failed_try_and_stops_nothing(world: World) -> None:
    async def faults(job: Job) -> Result:
        if job.subject == "bad":
            raise ZeroDivisionError
        return Done()

    bad, good = await world.add("bad"), await world.add("good")
    async with world.timing(Work(faults, tries=1)):
        assert (await world.comes_to(bad, JobState.FAILED)).reason == "INTERNAL"
        await world.comes_to(good, JobState.DONE)


@pytest.mark.requirement("AGT-9")
async def test_a_job_that_its_process_left_behind_is_begun_again_by_another(world: World) -> None:
    begun = asyncio.Event()

    async def hangs(job: Job) -> Result:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    job = await world.add()
    async with world.timing(Work(hangs), "one"):
        await asyncio.wait_for(begun.wait(), 30)
    await world.database.write("owner", lambda: claiming.outlive("two"))
    async with world.timing(Work(), "two"):
        await world.comes_to(job, JobState.DONE, attempts=2)
    assert await world.notes() == 1


@pytest.mark.requirement("AGT-9")
async def test_work_that_must_not_be_repeated_ends_in_doubt_when_its_process_died(world: World) -> None:
    begun = asyncio.Event()

    async def hangs(job: Job) -> Result:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    job = await world.add()
    async with world.timing(Work(hangs), "one"):
        await asyncio.wait_for(begun.wait(), 30)
    await world.database.write("owner", lambda: claiming.outlive("two"))
    after = Work(repeatable=False)
    async with world.timing(after, "two"):
        assert (await world.comes_to(job, JobState.IN_DOUBT)).reason == "OWNER_LOST"
    assert after.tried == []


@pytest.mark.requirement("AGT-9")
async def test_an_owner_that_was_taken_for_dead_keeps_nothing_of_its_try(world: World) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waits_once(job: Job) -> Result:
        if job.attempts == 1:
            begun.set()
            await go_on.wait()
        return Done(_noted(job))

    job = await world.add()
    async with world.timing(Work(waits_once)):
        await asyncio.wait_for(begun.wait(), 30)
        await world.database.write(job, lambda: _taken_away(job))
        await world.comes_to(job, JobState.DONE, attempts=2)
        assert len(world.timers[0]) == 1
        go_on.set()
        await eventually(lambda: not world.timers[0])
    assert await world.notes() == 1


@pytest.mark.requirement("AGT-9")
async def test_a_cancelled_job_stops_and_changes_nothing(world: World) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def hangs(job: Job) -> Result:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    job = await world.add()
    async with world.timing(Work(hangs)):
        await asyncio.wait_for(begun.wait(), 30)
        with pytest.raises(JobNotFound):
            await world.jobs.cancel(BERT, job)
        assert (await world.jobs.cancel(ANNA, job)).state is JobState.CANCELLED
        await asyncio.wait_for(stopped.wait(), 30)
        again = await world.jobs.cancel(ANNA, job)
    assert (again.state, await world.notes()) == (JobState.CANCELLED, 0)


@pytest.mark.requirement("AGT-9")
async def test_a_subject_has_one_open_job_of_a_kind(world: World) -> None:
    first = await world.add("same")
    await world.add("same")
    assert [job.id for job in await world.listed()] == [first]
    await world.jobs.cancel(ANNA, first)
    await world.add("same")
    assert len(await world.listed()) == 2


@pytest.mark.requirement("CTX-7")
@pytest.mark.parametrize("years", [-30, 30])
async def test_a_jump_of_the_clock_neither_loses_nor_doubles_a_repeating_job(
    world: World, years: int
) -> None:
    async def repeats(job: Job) -> Result:
        return Later(3600)

    work = Work(repeats)
    job = await world.add()
    async with world.timing(work):
        await world.comes_to(job, JobState.SCHEDULED)
        world.clock.jump(timedelta(days=365 * years))
        await world.comes_to(job, JobState.SCHEDULED, attempts=2)
        await world.clock.advance(timedelta(minutes=59))
        assert len(work.tried) == 2


async def test_the_list_shows_what_runs_next_then_what_is_over_in_pages(world: World) -> None:
    soon, late = await world.add("soon", after=DAY), await world.add("late", after=2 * DAY)
    over = []
    for number in range(3):
        over.append(await world.add(f"over {number}"))
        await world.jobs.cancel(ANNA, over[-1])
        await world.clock.advance(SECOND)
    await world.add("foreign", account="bert")
    found, token = [], ""
    while True:
        page = await world.jobs.list_page(ANNA, size=2, token=token, open_only=False)
        found += [job.id for job in page.jobs]
        token = page.next_token
        if not token:
            break
    assert found == [soon, late, *reversed(over)]
    open_ones = await world.jobs.list_page(ANNA, size=0, token="", open_only=True)
    assert [job.id for job in open_ones.jobs] == [soon, late]


async def test_a_job_that_is_over_is_forgotten_after_a_week(world: World) -> None:
    old = await world.add("old")
    async with world.timing(Work()):
        await world.comes_to(old, JobState.DONE)
        world.clock.jump(8 * DAY)
        new = await world.add("new")
        await world.comes_to(new, JobState.DONE)
    assert [job.id for job in await world.listed()] == [new]
