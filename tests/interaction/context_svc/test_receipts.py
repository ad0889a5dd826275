"""Receipts: what a turn used, cost and sent out, complete once it is over, whatever its end was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database
from tests.interaction.context_svc.conversation_room import PlayedOrchestrator, Room, Stage, Turn, room
from tests.interaction.context_svc.refusal import refused

pytestmark = pytest.mark.requirement("CHAT-11")


async def receipt(here: Room, session: str, turn: str) -> chat_pb2.TurnReceipt:
    request = chat_pb2.GetTurnReceiptRequest(session_id=session, turn_id=turn)
    return (await here.stub.GetTurnReceipt(request, timeout=30)).receipt


async def with_everything(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    started = chat_pb2.TurnStarted(
        model=chat_pb2.ModelChoice(model="played", provider="afar"),
        window=chat_pb2.WindowReport(kept_messages=1, window_tokens=9, budget_tokens=90),
    )
    yield stage.event(turn_started=started)
    window = Duration(nanos=2_000_000)
    yield Turn(receipt=turn_pb2.ReceiptEntry(window_time=window))
    yield Turn(
        receipt=turn_pb2.ReceiptEntry(egress=chat_pb2.Egress(destination="afar", content="prompt", bytes=70))
    )
    yield stage.step(input_tokens=9, output_tokens=1, cost_micro_usd=40)
    for name in ("one", "two"):
        call = chat_pb2.CallReceipt(call_id=name, action=name, duration=Duration(seconds=1))
        yield Turn(receipt=turn_pb2.ReceiptEntry(call=call))
    yield stage.says("so")
    yield Turn(receipt=turn_pb2.ReceiptEntry(window_time=window))
    yield stage.step(input_tokens=12, output_tokens=2, cost_micro_usd=50)
    yield stage.finished("so", input_tokens=21, output_tokens=3, cost_micro_usd=90)


async def test_a_receipt_holds_every_step_call_and_stage_and_what_left_the_mesh(database: Database) -> None:
    orchestrator = PlayedOrchestrator()
    orchestrator.play = with_everything
    async with room(database, orchestrator) as here:
        session = await here.session()
        events = await here.say(session, "hi")
        told = await receipt(here, session, events[0].turn_id)
    assert told.state == session_pb2.TURN_STATE_FINISHED
    assert told.usage == events[-1].turn_finished.usage
    assert (told.model.model, told.window.budget_tokens) == ("played", 90)
    assert [step.usage.cost_micro_usd for step in told.steps] == [40, 50]
    assert [call.action for call in told.calls] == ["one", "two"]
    assert [(each.destination, each.bytes) for each in told.egress] == [("afar", 70)]
    spans = told.latencies
    assert spans.tools.ToTimedelta() == timedelta(seconds=2)
    assert spans.window.ToTimedelta() == timedelta(milliseconds=4)
    assert timedelta(0) < spans.accept.ToTimedelta() < timedelta(seconds=5)
    for name in ("queue", "first_token", "total"):
        assert spans.HasField(name)
    assert spans.first_token.ToTimedelta() <= spans.total.ToTimedelta()


async def test_a_turn_that_broke_is_charged_for_the_steps_it_told_of(database: Database) -> None:
    async def breaks(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        yield stage.step(input_tokens=9, output_tokens=1, cost_micro_usd=40)
        yield stage.step(input_tokens=4, output_tokens=2, cost_micro_usd=2, estimated=True)

    orchestrator = PlayedOrchestrator()
    orchestrator.play = breaks
    async with room(database, orchestrator) as here:
        session = await here.session()
        events = await here.say(session, "hi")
        told = await receipt(here, session, events[0].turn_id)
    assert events[-1].turn_failed.reason == error_pb2.ERROR_REASON_PEER_UNAVAILABLE
    assert (told.usage.input_tokens, told.usage.output_tokens, told.usage.cost_micro_usd) == (13, 3, 42)
    assert told.usage.estimated
    assert not told.latencies.HasField("first_token")


@pytest.mark.requirement("LLM-8")
async def test_the_receipt_of_a_running_turn_names_its_model_and_that_of_a_stranger_is_not_found(
    database: Database,
) -> None:
    async with room(database) as here:
        session = await here.session()
        seen: list[chat_pb2.TurnReceipt] = []

        async def asks(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
            started = stage.started()
            started.event.turn_started.model.from_cache = True
            yield started
            await here.until(session, lambda events: events[-1].HasField("turn_started"))
            seen.append(await receipt(here, session, stage.start.turn_id))
            yield stage.finished("so")

        here.orchestrator.play = asks
        events = await here.say(session, "hi")
        assert (seen[0].model.model, seen[0].model.from_cache) == ("played", True)
        assert seen[0].state == session_pb2.TURN_STATE_RUNNING
        other = await here.session("account-2")
        assert await refused(receipt(here, other, events[0].turn_id)) == "TURN_NOT_FOUND"
