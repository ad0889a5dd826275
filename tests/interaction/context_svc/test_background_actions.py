"""Work that an action leaves behind: a turn of its own later, once, listed, cancellable, ending in an event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from chassis.database import Database
from chassis.testing import FakeClock
from context_svc.job_rows import JobState
from context_svc.leavings import Work
from orchestrator_svc.conversation import BackgroundTask
from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import Effect, Output, Setting, Tool, ToolFailure
from tests.interaction.context_svc.agent import Nothing, World, agent_room, approve
from tests.interaction.context_svc.conversation_room import Room, kinds
from tests.interaction.context_svc.test_executions import order, run
from tests.interaction.context_svc.test_owners import expire_owners
from tests.interaction.context_svc.test_reminders import settle
from tests.interaction.context_svc.test_waiting import _now, one

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PostgreSQL go by the test's clock too, where jobs are claimed."""
    monkeypatch.setattr("context_svc.job_rows.database_now", _now)
    monkeypatch.setattr("context_svc.claims.database_now", _now)
    monkeypatch.setattr(
        "context_svc.claims.LEASE_US", 86_400_000_000
    )  # the clock may outrun a store that is busy


class Leaving(World):
    """A world with an action that leaves `tasks` behind, and one that fails `failures` times first."""

    tasks: tuple[BackgroundTask, ...] = ()
    failures = 0
    tried = 0

    @property
    def actions(self) -> tuple[Tool[Any], ...]:
        async def leave(arguments: Nothing, setting: Setting) -> Output:
            return Output(content="left", background_tasks=self.tasks)

        async def struggle(arguments: Nothing, setting: Setting) -> Output:
            self.tried += 1
            if self.tried <= self.failures:
                raise ToolFailure("Not now.", reason=Reason.PROVIDER_FAILED, retryable=True)
            return Output(content="done", background_tasks=self.tasks)

        tools = (("leave", leave), ("struggle", struggle))
        return (
            *super().actions,
            *(
                Tool(
                    name=name,
                    description=f"Will {name} something.",
                    arguments=Nothing,
                    perform=perform,
                    agent="test",
                    effect=Effect.NONE,
                )
                for name, perform in tools
            ),
        )


@pytest.fixture
def world(tmp_path: Path) -> Leaving:
    return Leaving(tmp_path / "world.txt")


@asynccontextmanager
async def at_work(
    database: Database, world: Leaving, clock: FakeClock, owner: str | None = None
) -> AsyncIterator[Room]:
    async with agent_room(database, world, [], background=True, clock=clock, owner=owner) as (here, _):
        yield here


async def leave(here: Room) -> tuple[str, chat_pb2.ToolFinished]:
    session = await here.session()
    events = await run(here, order(session, "leave", follow=True))
    return session, one(events, "tool_finished").tool_finished


async def until(
    here: Room, clock: FakeClock, session: str, done: Callable[[list[chat_pb2.ChatEvent]], bool]
) -> list[chat_pb2.ChatEvent]:
    """Let time pass until the log of the session is so; at most a hundred seconds."""
    for _ in range(100):
        log = await here.log(session)
        if done(log):
            return log
        await settle(here, clock)
    raise AssertionError(kinds(log))


def over(log: list[chat_pb2.ChatEvent]) -> bool:
    return "job_finished" in kinds(log)


async def job(here: Room, job_id: str) -> agent_pb2.Job:
    jobs = (await here.agent.ListJobs(agent_pb2.ListJobsRequest(), timeout=30)).jobs
    (found,) = [each for each in jobs if each.id == job_id]
    return found


@pytest.mark.requirement("AGT-9")
async def test_work_left_behind_runs_later_as_a_turn_of_its_own(database: Database, world: Leaving) -> None:
    clock = FakeClock()
    world.tasks = (BackgroundTask(action="hold", title="Hold on", delay=30),)
    async with at_work(database, world, clock) as here:
        session, finished = await leave(here)
        (job_id,) = finished.job_ids
        found = await job(here, job_id)
        assert (found.kind, found.title, found.state) == ("action", "Hold on", agent_pb2.JOB_STATE_SCHEDULED)
        await clock.advance(20 * SECOND)
        assert not world.entered.is_set()
        log = await until(here, clock, session, over)
        told = one(log, "job_finished").job_finished
        assert (told.job_id, told.outcome) == (job_id, chat_pb2.JOB_OUTCOME_DONE)
        assert told.message == "Hold on: done."
        results = [e.tool_finished.result for e in log if e.HasField("tool_finished")]
        assert results == ["left", "held"]
        done = await job(here, job_id)
        assert (done.state, done.attempts) == (agent_pb2.JOB_STATE_DONE, 1)


@pytest.mark.requirement("AGT-9", "AGT-4")
async def test_an_effect_that_was_left_behind_asks_first(database: Database, world: Leaving) -> None:
    clock = FakeClock()
    world.tasks = (BackgroundTask(action="write", arguments='{"text":"later"}'),)
    async with at_work(database, world, clock) as here:
        session, _ = await leave(here)
        log = await until(here, clock, session, lambda log: kinds(log)[-1] == "turn_suspended")
        assert world.effects == []
        await here.stub.RespondToTurn(approve(session, one(log, "approval_requested")), timeout=30)
        log = await until(here, clock, session, over)
        assert world.effects == ["later"]
        assert one(log, "job_finished").job_finished.outcome == chat_pb2.JOB_OUTCOME_DONE


@pytest.mark.requirement("AGT-9")
@pytest.mark.parametrize(("failures", "outcome", "tried"), [(1, "DONE", 2), (5, "FAILED", 2)])
async def test_what_fails_is_tried_again_so_often_and_no_more(
    database: Database, world: Leaving, failures: int, outcome: str, tried: int
) -> None:
    clock = FakeClock()
    world.tasks, world.failures = (BackgroundTask(action="struggle", tries=2),), failures
    async with at_work(database, world, clock) as here:
        session, finished = await leave(here)
        world.tasks = ()
        log = await until(here, clock, session, over)
        told = one(log, "job_finished").job_finished
        assert chat_pb2.JobOutcome.Name(told.outcome) == f"JOB_OUTCOME_{outcome}"
        assert world.tried == tried
        assert (await job(here, finished.job_ids[0])).attempts == tried


@pytest.mark.requirement("AGT-9")
async def test_cancelling_the_job_stops_the_action_that_runs(database: Database, world: Leaving) -> None:
    clock = FakeClock()
    world.tasks = (BackgroundTask(action="hold"),)
    world.gate.clear()
    async with at_work(database, world, clock) as here:
        session, finished = await leave(here)
        await until(here, clock, session, lambda _log: world.entered.is_set())
        await here.agent.CancelJob(agent_pb2.CancelJobRequest(job_id=finished.job_ids[0]), timeout=30)
        log = await until(here, clock, session, lambda log: kinds(log)[-1] == "turn_cancelled")
        assert one(log, "job_finished").job_finished.outcome == chat_pb2.JOB_OUTCOME_CANCELLED
        assert (await job(here, finished.job_ids[0])).state == agent_pb2.JOB_STATE_CANCELLED


@pytest.mark.requirement("AGT-9", "AGT-5")
async def test_a_restart_in_the_middle_runs_it_once(database: Database, world: Leaving) -> None:
    clock = FakeClock()
    world.tasks = (BackgroundTask(action="hold", delay=10),)
    async with at_work(database, world, clock, owner="one") as here:
        session, _ = await leave(here)
    await database.write("owner", expire_owners)
    async with at_work(database, world, clock, owner="two") as here, at_work(database, world, clock, "three"):
        log = await until(here, clock, session, over)
        assert kinds(log).count("job_finished") == 1
        assert [e.tool_finished.result for e in log if e.HasField("tool_finished")] == ["left", "held"]


@pytest.mark.requirement("AGT-9")
async def test_work_that_leaves_work_behind_comes_to_an_end(database: Database, world: Leaving) -> None:
    clock = FakeClock()
    world.tasks = (BackgroundTask(action="struggle"),)
    async with at_work(database, world, clock) as here:
        session, _ = await leave(here)
        await until(here, clock, session, lambda log: kinds(log).count("job_finished") == 3)
        assert world.tried == 3
        jobs = (await here.agent.ListJobs(agent_pb2.ListJobsRequest(open_only=True), timeout=30)).jobs
        assert [each.kind for each in jobs if each.kind == "action"] == []


def test_work_is_stored_as_it_was() -> None:
    work = Work(action="a", arguments="{}", tried=2, turn_id="t")
    assert Work.of(work.payload()) == work
    assert JobState.DONE.over
