"""Actions with effects: begun only once that is durable, in doubt when cut off, never run again by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import Enum
from pathlib import Path

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database
from chassis.testing import eventually
from context_svc.journal import Draft, Kind
from context_svc.peers import OrchestratorTurn
from context_svc.turn_log import TurnLog
from tests.interaction.context_svc.agent import World, agent_room, approve
from tests.interaction.context_svc.conversation_room import Room, Stage, kinds, room
from tests.interaction.context_svc.test_owners import expire_owners
from tests.interaction.context_svc.test_waiting import ask, ends_with, one
from tests.interaction.orchestrator_svc.scripted_llm import Ask, Hang, Say

WRITES = (Say("I will write. "), Ask("w1", "write", '{"text":"hello"}'))
OVER = ("turn_finished", "turn_failed", "turn_cancelled")


class Point(Enum):
    """Where the process ends."""

    ASKED = "asked"  # before the answer
    ANSWERED = "answered"  # with the answer stored
    BEGUN = "begun"  # ToolStarted is durable, and nobody said so
    AT_WORK = "at work"  # the effect has happened, the action goes on
    DONE = "done"  # its end is durable, the turn goes on


ENDS = {
    Point.ASKED: ("turn_finished", 0, 1),
    Point.ANSWERED: ("turn_finished", 0, 1),
    Point.BEGUN: ("EFFECT_IN_DOUBT", 0, 0),
    Point.AT_WORK: ("EFFECT_IN_DOUBT", 1, 1),
    Point.DONE: ("OWNER_LOST", 1, 1),
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world.txt")


async def reach(point: Point, here: Room, session: str, asked: chat_pb2.ChatEvent, world: World) -> None:
    if point is Point.ASKED:
        return
    await here.stub.RespondToTurn(approve(session, asked), timeout=30)
    match point:
        case Point.BEGUN:
            await here.until(session, ends_with("tool_started"))
        case Point.AT_WORK:
            await world.entered.wait()
            await here.until(session, ends_with("tool_progress"))
        case Point.DONE:
            await here.until(session, ends_with("tool_finished"))


@pytest.mark.requirement("AGT-5")
@pytest.mark.parametrize("point", Point)
async def test_wherever_the_process_ends_the_world_sees_an_effect_at_most_once(
    database: Database, world: World, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    if point is Point.AT_WORK:
        world.gate.clear()
    with monkeypatch.context() as patched:
        if point is Point.BEGUN:
            patched.setattr(OrchestratorTurn, "effect_recorded", never)
        async with agent_room(database, world, [WRITES, (Hang(),)], owner="first") as (here, _):
            session, log = await ask(here)
            asked = one(log, "approval_requested")
            if point is Point.ANSWERED:
                patched.setattr(here.schedule, "wake", lambda *_: None)
            await reach(point, here, session, asked, world)
    end, before, after = ENDS[point]
    assert len(world.effects) == before
    await database.write("owner", expire_owners)
    world.gate.set()
    async with agent_room(database, world, [(Say("Done."),)], owner="second") as (here, _):
        if point is Point.ASKED:
            await here.stub.RespondToTurn(approve(session, asked), timeout=30)
        log = await here.until(session, lambda events: kinds(events)[-1] in OVER)
        await eventually(lambda: len(here.runs) == 0)
    assert len(world.effects) == after
    outcomes = {e.tool_finished.call_id: e.tool_finished.outcome for e in log if e.HasField("tool_finished")}
    if end == "turn_finished":
        assert kinds(log)[-1] == end
        return
    failed = log[-1].turn_failed
    assert error_pb2.ErrorReason.Name(failed.reason) == f"ERROR_REASON_{end}"
    in_doubt = end == "EFFECT_IN_DOUBT"
    assert failed.retryable is not in_doubt
    assert failed.partial.parts[0].text == "I will write. "
    assert outcomes["w1"] == (chat_pb2.TOOL_OUTCOME_IN_DOUBT if in_doubt else chat_pb2.TOOL_OUTCOME_DONE)


@pytest.mark.requirement("AGT-5")
@pytest.mark.parametrize("recorded", [True, False])
async def test_an_orchestrator_that_dies_leaves_an_effect_in_doubt_once_it_may_have_run(
    database: Database, recorded: bool
) -> None:
    async def dies(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        effect = chat_pb2.EFFECT_CLASS_EFFECT
        yield stage.event(
            tool_started=chat_pb2.ToolStarted(call_id="w1", action="write", effect_class=effect)
        )
        if recorded:
            await stage.recorded.wait()
        raise RuntimeError("the orchestrator died")

    async with room(database) as here:
        here.orchestrator.play = dies
        events = await here.say(await here.session(), "write")
    ended = one(events, "tool_finished").tool_finished
    failed = events[-1].turn_failed
    if recorded:
        assert ended.outcome == chat_pb2.TOOL_OUTCOME_IN_DOUBT
        assert (failed.reason, failed.retryable) == (error_pb2.ERROR_REASON_EFFECT_IN_DOUBT, False)
    else:
        assert ended.call_id == "w1"
        assert ended.outcome in (chat_pb2.TOOL_OUTCOME_CANCELLED, chat_pb2.TOOL_OUTCOME_IN_DOUBT)


@pytest.mark.requirement("AGT-5")
async def test_an_action_with_effects_waits_until_its_start_is_durable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable, early = asyncio.Event(), []
    add, write, tell = TurnLog.add, TurnLog.write, OrchestratorTurn.effect_recorded

    def noticed(self: TurnLog, draft: Draft, then: Callable[[], None] | None = None) -> None:
        add(self, draft, then)
        if draft.kind is Kind.TOOL_STARTED:  # the store is slow: whoever does not wait for it is seen
            asyncio.get_running_loop().call_later(0.05, durable.set)

    async def slowly(self: TurnLog) -> None:
        await durable.wait()
        await write(self)

    async def told(self: OrchestratorTurn, call_id: str) -> None:
        early.append(not durable.is_set())
        await tell(self, call_id)

    monkeypatch.setattr(TurnLog, "add", noticed)
    monkeypatch.setattr(TurnLog, "write", slowly)
    monkeypatch.setattr(OrchestratorTurn, "effect_recorded", told)

    async def waits(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        effect = chat_pb2.EFFECT_CLASS_EFFECT
        yield stage.event(
            tool_started=chat_pb2.ToolStarted(call_id="w1", action="write", effect_class=effect)
        )
        await stage.recorded.wait()
        yield stage.event(tool_finished=chat_pb2.ToolFinished(call_id="w1", action="write"))
        yield stage.finished("done")

    async with room(database) as here:
        here.orchestrator.play = waits
        events = await here.say(await here.session(), "write")
    assert kinds(events)[-1] == "turn_finished"
    assert early == [False]


@pytest.mark.requirement("CHAT-5")
async def test_stopping_a_turn_in_an_effect_says_that_it_may_have_happened(
    database: Database, world: World
) -> None:
    world.gate.clear()
    async with agent_room(database, world, [WRITES]) as (here, _):
        session, log = await ask(here)
        await here.stub.RespondToTurn(approve(session, one(log, "approval_requested")), timeout=30)
        await world.entered.wait()
        cancel = chat_pb2.CancelTurnRequest(
            session_id=session, turn_id=log[0].turn_id, request_id="5d1f5b9a-3df5-4b7e-9d8e-0c0a5c6f1f11"
        )
        await here.stub.CancelTurn(cancel, timeout=30)
        log = await here.until(session, ends_with("turn_cancelled"))
        assert one(log, "tool_finished").tool_finished.outcome == chat_pb2.TOOL_OUTCOME_IN_DOUBT
        assert log[-1].turn_cancelled.partial.parts[0].text == "I will write. "
