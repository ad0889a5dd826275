"""One action run directly: same log, approval and idempotency as in a turn with a model."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import grpc
import pytest

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.status import from_rpc_error
from context_svc.audit import first_broken
from tests.interaction.context_svc.agent import World, agent_room, approve
from tests.interaction.context_svc.conversation_room import Room, kinds
from tests.interaction.context_svc.test_waiting import WRITES, ask, ends_with, one
from tests.interaction.orchestrator_svc.scripted_llm import Say


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world.txt")


def order(session: str, action: str, arguments: str = "", **fields: object) -> agent_pb2.ExecuteActionRequest:
    return agent_pb2.ExecuteActionRequest(
        session_id=session,
        request_id=fields.pop("request_id", ids.uuid()),  # type: ignore[arg-type]
        action=action,
        arguments_json=arguments,
        **fields,  # type: ignore[arg-type]
    )


async def run(here: Room, request: agent_pb2.ExecuteActionRequest) -> list[chat_pb2.ChatEvent]:
    return [frame.event async for frame in here.agent.ExecuteAction(request, timeout=30)]


async def refused(here: Room, request: agent_pb2.ExecuteActionRequest) -> str | None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await run(here, request)
    return from_rpc_error(caught.value).reason


@pytest.mark.requirement("AGT-3")
async def test_an_action_runs_without_a_model_and_is_one_audit_line(
    database: Database, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with agent_room(database, world, [(Say("It is noon."),)]) as (here, llm):
        session = await here.session()
        request = order(session, "current_time", '{"zone":"Europe/Paris"}', follow=True)
        events, *others = await asyncio.gather(*(run(here, request) for _ in range(4)))
        assert kinds(events) == [
            "turn_accepted",
            "turn_started",
            "tool_started",
            "tool_finished",
            "turn_finished",
        ]
        assert all(each == events for each in others)
        assert events[0].turn_accepted.action.action == "current_time"
        assert not events[0].turn_accepted.HasField("message")
        assert "Europe/Paris" in events[3].tool_finished.result
        assert llm.opened == []
        audit = [record for record in caplog.records if record.getMessage() == "action"]
        assert len(audit) == 1
        assert "Paris" not in str(audit[0].__dict__)
        follow_up = await here.say(session, "so what time is it?")
        assert follow_up[0].turn_accepted.message.parent_id == events[-1].turn_finished.message.id
        assert any(part.HasField("tool_result") for m in llm.opened[0].window.messages for part in m.parts)


@pytest.mark.requirement("AGT-3")
@pytest.mark.requirement("AGT-4")
async def test_an_effect_asks_also_when_it_is_run_directly(database: Database, world: World) -> None:
    async with agent_room(database, world, []) as (here, _):
        session = await here.session()
        await run(here, order(session, "write", '{"text":"hello, and hold"}'))
        log = await here.until(session, ends_with("turn_suspended"))
        assert world.effects == []
        await here.stub.RespondToTurn(approve(session, one(log, "approval_requested")), timeout=30)
        log = await here.until(session, ends_with("turn_finished"))
        assert world.effects == ["hello, and hold"]
        done = one(log, "tool_finished").tool_finished
        assert [(each.action, json.loads(each.arguments_json)) for each in done.next_actions] == [
            ("hold", {})
        ]
        assert one(log, "tool_progress").tool_progress.message == "written"


@pytest.mark.requirement("AGT-3")
async def test_what_cannot_run_is_refused_before_anything_is_stored(database: Database, world: World) -> None:
    async with agent_room(database, world, []) as (here, _):
        session = await here.session()
        assert await refused(here, order(session, "nothing")) == "ACTION_NOT_FOUND"
        assert await refused(here, order(session, "write", '{"word":"x"}')) == "ARGUMENTS_INVALID"
        assert await refused(here, order(session, "write", "[]")) == "INVALID_FIELD"
        assert await refused(here, order("none", "current_time")) == "SESSION_NOT_FOUND"
        unscoped = order(session, "write", '{"text":"hello"}', approved=True)
        assert await refused(here, unscoped) == "SCOPE_MISSING"
        used = ids.uuid()
        await run(here, order(session, "current_time", request_id=used))
        other = order(session, "current_time", '{"zone":"Asia/Tokyo"}', request_id=used)
        assert await refused(here, other) == "IDEMPOTENCY_KEY_REUSED"
        assert kinds(await here.log(session)).count("turn_accepted") == 1


@pytest.mark.requirement("AGT-3")
async def test_an_action_runs_while_another_turn_waits_for_the_person(
    database: Database, world: World
) -> None:
    async with agent_room(database, world, [WRITES]) as (here, _):
        session, _ = await ask(here)
        events = await run(here, order(session, "current_time", follow=True))
        assert kinds(events)[-1] == "turn_finished"
        assert kinds(await here.log(session)).count("turn_suspended") == 1


@pytest.mark.requirement("AGT-3")
@pytest.mark.requirement("AGT-4")
async def test_each_action_and_each_answer_is_a_line_of_the_audit_log_without_content(
    database: Database, world: World
) -> None:
    async with agent_room(database, world, [WRITES, (Say("Done."),)]) as (here, _):
        session, log = await ask(here)
        asked = one(log, "approval_requested")
        await here.stub.RespondToTurn(approve(session, asked), timeout=30)
        await here.until(session, ends_with("turn_finished"))
        await run(here, order(session, "current_time", follow=True))
        lines = await database.read(_audited)
    turn, approval_id = asked.turn_id, asked.approval_requested.approval_id
    assert lines == [
        ("action_ended", "current_time clock done"),
        ("action_answered", f"{turn} {approval_id} approve"),
        ("action_ended", "write pen done"),
        ("action_ended", "current_time clock done"),
    ]
    assert await database.read(first_broken) is None


def _audited() -> Unit[list[tuple[str, str]]]:
    rows = yield Statement("SELECT event, subject FROM audit ORDER BY sequence")
    return [(row["event"], row["subject"]) for row in rows]
