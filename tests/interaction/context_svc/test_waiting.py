"""Approvals and questions, through the real agent loop: asked once they can be answered, answered once, resumed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.database import Database
from chassis.status import from_rpc_error, from_status
from chassis.testing import FakeClock
from context_svc.errors import TurnNotFound
from context_svc.wire.replies import reply
from tests.interaction.context_svc.agent import World, agent_room, approve
from tests.interaction.context_svc.conversation_room import Room, Stage, kinds, room
from tests.interaction.orchestrator_svc.scripted_llm import Ask, Say

WRITES = (Say("I will write. "), Ask("w1", "write", '{"text":"hello"}'), Ask("c1", "current_time"))
DONE = (Say("Done."),)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world.txt")


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PostgreSQL go by the test's clock too, where jobs are claimed."""
    monkeypatch.setattr("context_svc.job_rows.database_now", _now)
    monkeypatch.setattr("context_svc.claims.database_now", _now)


def _now(engine: object, now_us: int):  # type: ignore[no-untyped-def]
    from chassis.database import Statement

    yield Statement("SELECT 1 AS one")
    return now_us


async def ask(here: Room, text: str = "write hello") -> tuple[str, list[chat_pb2.ChatEvent]]:
    """A session whose turn waits, and its log."""
    session = await here.session()
    request = chat_pb2.SendMessageRequest(message=here.message(session, text))
    [frame async for frame in here.stub.SendMessage(request, timeout=30)]
    return session, await here.until(session, ends_with("turn_suspended"))


def ends_with(kind: str) -> Callable[[list[chat_pb2.ChatEvent]], bool]:
    return lambda events: kinds(events)[-1] == kind


def one(log: list[chat_pb2.ChatEvent], kind: str) -> chat_pb2.ChatEvent:
    (found,) = [event for event in log if event.WhichOneof("event") == kind]
    return found


async def refused(here: Room, request: chat_pb2.RespondToTurnRequest) -> str | None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.stub.RespondToTurn(request, timeout=30)
    return from_rpc_error(caught.value).reason


@pytest.mark.requirement("AGT-4")
async def test_an_effect_waits_for_consent_and_then_goes_on_where_it_stopped(
    database: Database, world: World
) -> None:
    async with agent_room(database, world, [WRITES, DONE]) as (here, llm):
        session, log = await ask(here)
        asked = one(log, "approval_requested")
        assert json.loads(asked.approval_requested.arguments_json) == {"text": "hello"}
        assert asked.approval_requested.expire_time == log[-1].turn_suspended.expire_time
        assert list(log[-1].turn_suspended.approval_ids) == [asked.approval_requested.approval_id]
        assert kinds(log).count("tool_finished") == 1  # the clock, which asks nobody
        assert world.effects == []

        answer = await here.stub.RespondToTurn(approve(session, asked), timeout=30)
        assert answer.state == session_pb2.TURN_STATE_QUEUED
        log = await here.until(session, ends_with("turn_finished"))

        assert world.effects == ["hello"]
        assert [event.sequence for event in log] == list(range(1, len(log) + 1))
        started = [event.turn_started for event in log if event.HasField("turn_started")]
        assert [each.attempt for each in started] == [1, 2]
        message = log[-1].turn_finished.message
        assert "".join(part.text for part in message.parts) == "I will write. Done."
        assert log[-1].turn_finished.usage.output_tokens == 10  # both steps
        results = {part.tool_result.call_id for part in llm.opened[-1].window.messages[-1].parts}
        assert results == {"w1"} or results == {"w1", "c1"}


def ends_beyond(log: list[chat_pb2.ChatEvent], kind: str) -> Callable[[list[chat_pb2.ChatEvent]], bool]:
    return lambda events: len(events) > len(log) and kinds(events)[-1] == kind


async def spans(here: Room, log: list[chat_pb2.ChatEvent]) -> chat_pb2.StageLatencies:
    """How long each stage of the turn took, as its receipt says."""
    request = chat_pb2.GetTurnReceiptRequest(session_id=log[0].session_id, turn_id=log[0].turn_id)
    return (await here.stub.GetTurnReceipt(request, timeout=30)).receipt.latencies


@pytest.mark.requirement("CHAT-11")
async def test_a_receipt_says_how_long_the_turn_waited_for_the_person(
    database: Database, world: World
) -> None:
    """For each consent, from the question to its answer: no other stage holds that time."""
    again = (Ask("w2", "write", '{"text":"more"}'),)
    clock = FakeClock()
    async with agent_room(database, world, [WRITES, again, DONE], clock=clock) as (here, _):
        session, log = await ask(here)
        assert not (await spans(here, log)).HasField("wait")
        for minutes, end in ((20, "turn_suspended"), (15, "turn_finished")):
            clock.jump(timedelta(minutes=minutes))
            asked = [event for event in log if event.HasField("approval_requested")][-1]
            await here.stub.RespondToTurn(approve(session, asked), timeout=30)
            log = await here.until(session, ends_beyond(log, end))
        told = await spans(here, log)
    assert told.wait.ToTimedelta() == timedelta(minutes=35)
    assert told.total.ToTimedelta() >= timedelta(minutes=35)
    assert told.queue.ToTimedelta() < timedelta(minutes=1)


@pytest.mark.requirement("CHAT-11")
@pytest.mark.parametrize("how", ["superseded", "cancelled"])
async def test_a_wait_that_nobody_answered_is_in_the_receipt_too(
    database: Database, world: World, how: str
) -> None:
    clock = FakeClock()
    async with agent_room(database, world, [WRITES, DONE, DONE], clock=clock) as (here, _):
        session, log = await ask(here)
        clock.jump(timedelta(minutes=20))
        if how == "cancelled":
            stop = chat_pb2.CancelTurnRequest(
                session_id=session, turn_id=log[0].turn_id, request_id=ids.uuid()
            )
            await here.stub.CancelTurn(stop, timeout=30)
        else:
            await here.say(session, "never mind")
        await here.until(session, lambda events: bool({"turn_finished", "turn_cancelled"} & {*kinds(events)}))
        assert (await spans(here, log)).wait.ToTimedelta() == timedelta(minutes=20)


@pytest.mark.requirement("AGT-4")
async def test_an_answer_is_bound_to_what_was_seen_and_used_once(database: Database, world: World) -> None:
    async with agent_room(database, world, [WRITES, DONE]) as (here, _):
        session, log = await ask(here)
        asked = one(log, "approval_requested")
        changed = approve(session, asked, arguments_sha256="0" * 64)
        assert await refused(here, changed) == "APPROVAL_MISMATCH"
        assert await refused(here, approve(session, asked, approval_id="another")) == "TURN_NOT_WAITING"
        foreign = await here.session(account="account-2")
        assert await refused(here, approve(foreign, asked)) == "TURN_NOT_FOUND"
        unwritable = approve(
            session, asked, decision=chat_pb2.APPROVAL_DECISION_EDIT, edited_arguments_json="no"
        )
        assert await refused(here, unwritable) == "INVALID_FIELD"

        yes = approve(session, asked)
        states = await asyncio.gather(*(here.stub.RespondToTurn(yes, timeout=30) for _ in range(8)))
        assert {each.state for each in states} == {session_pb2.TURN_STATE_QUEUED}
        await here.until(session, ends_with("turn_finished"))
        again = await here.stub.RespondToTurn(yes, timeout=30)
        assert again.state == session_pb2.TURN_STATE_QUEUED  # as the first time
        assert await refused(here, approve(session, asked)) == "TURN_NOT_WAITING"
        no = approve(session, asked, yes.request_id, decision=chat_pb2.APPROVAL_DECISION_DENY)
        assert await refused(here, no) == "IDEMPOTENCY_KEY_REUSED"
        assert world.effects == ["hello"]


@pytest.mark.requirement("AGT-4")
async def test_nobody_else_can_answer(database: Database, world: World) -> None:
    async with agent_room(database, world, [WRITES]) as (here, _):
        session, log = await ask(here)
        theirs = reply(approve(session, one(log, "approval_requested")), "account-2")
        with pytest.raises(TurnNotFound):
            await database.write(session, lambda: here.waiting.respond(theirs, 1))
        assert kinds(await here.log(session))[-1] == "turn_suspended"


@pytest.mark.requirement("AGT-4")
async def test_of_many_answers_at_once_one_wins(database: Database, world: World) -> None:
    async with agent_room(database, world, [WRITES, DONE]) as (here, _):
        session, log = await ask(here)
        asked = one(log, "approval_requested")
        answers = [approve(session, asked) for _ in range(8)]
        outcomes = await asyncio.gather(
            *(here.stub.RespondToTurn(each, timeout=30) for each in answers), return_exceptions=True
        )
        assert sum(not isinstance(each, BaseException) for each in outcomes) == 1
        await here.until(session, ends_with("turn_finished"))
        assert world.effects == ["hello"]


@pytest.mark.requirement("AGT-4")
@pytest.mark.parametrize(
    ("changes", "effects", "outcome"),
    [
        ({"decision": chat_pb2.APPROVAL_DECISION_DENY}, [], chat_pb2.TOOL_OUTCOME_DENIED),
        (
            {"decision": chat_pb2.APPROVAL_DECISION_EDIT, "edited_arguments_json": '{"text":"other"}'},
            ["other"],
            chat_pb2.TOOL_OUTCOME_DONE,
        ),
        (
            {"decision": chat_pb2.APPROVAL_DECISION_EDIT, "edited_arguments_json": '{"word":"other"}'},
            [],
            chat_pb2.TOOL_OUTCOME_FAILED,
        ),
    ],
)
async def test_denied_and_edited_calls_do_what_the_person_said(
    database: Database, world: World, changes: dict[str, Any], effects: list[str], outcome: int
) -> None:
    async with agent_room(database, world, [WRITES, DONE]) as (here, _):
        session, log = await ask(here)
        await here.stub.RespondToTurn(approve(session, one(log, "approval_requested"), **changes), timeout=30)
        log = await here.until(session, ends_with("turn_finished"))
        assert world.effects == effects
        ended = {
            event.tool_finished.call_id: event.tool_finished
            for event in log
            if event.HasField("tool_finished")
        }
        assert ended["w1"].outcome == outcome


@pytest.mark.requirement("AGT-4")
async def test_a_waiting_turn_outlives_a_restart_and_is_answered_hours_later(
    database: Database, world: World
) -> None:
    clock = FakeClock()
    async with agent_room(database, world, [WRITES], clock=clock) as (here, _):
        session, log = await ask(here)
    clock.jump(timedelta(hours=23))
    async with agent_room(database, world, [DONE], clock=clock) as (here, _):
        asked = one(log, "approval_requested")
        await here.stub.RespondToTurn(approve(session, asked), timeout=30)
        log = await here.until(session, ends_with("turn_finished"))
        assert world.effects == ["hello"]
        assert log[-1].turn_finished.message.parts[0].text == "I will write. "


@pytest.mark.requirement("AGT-4")
async def test_after_a_day_without_an_answer_the_turn_fails_and_keeps_what_it_said(
    database: Database, world: World
) -> None:
    clock = FakeClock()
    async with agent_room(database, world, [WRITES], clock=clock, background=True) as (here, _):
        session, log = await ask(here)
        clock.jump(timedelta(hours=24))
        too_late = approve(session, one(log, "approval_requested"))
        assert await refused(here, too_late) == "TURN_NOT_WAITING"
        await clock.asleep()
        await clock.advance(timedelta(seconds=2))
        log = await here.until(session, ends_with("turn_failed"))
        failed = log[-1].turn_failed
        assert failed.reason == error_pb2.ERROR_REASON_WAIT_EXPIRED
        assert failed.stage == chat_pb2.TURN_STAGE_WAIT
        assert (failed.partial.parts[0].text, failed.partial.partial) == ("I will write. ", True)
        assert failed.usage.output_tokens == 5


@pytest.mark.requirement("AGT-4")
async def test_a_newer_message_takes_the_place_of_an_open_answer(database: Database, world: World) -> None:
    steps = [WRITES, (Say("Then not."),), (Say("It is noon."),)]
    async with agent_room(database, world, steps) as (here, _):
        session, log = await ask(here)
        events = await here.say(session, "what time is it?")
        assert events[-1].turn_finished.message.parts[-1].text == "It is noon."
        ended = [
            event.turn_finished.message
            for event in await here.log(session)
            if event.HasField("turn_finished")
        ]
        assert [message.parts[-1].text for message in ended] == ["Then not.", "It is noon."]
        assert events[0].turn_accepted.message.parent_id == ended[0].id
        assert await refused(here, approve(session, one(log, "approval_requested"))) == "TURN_NOT_WAITING"
        assert world.effects == []


@pytest.mark.requirement("AGT-4")
async def test_a_message_sent_before_the_question_waits_for_its_answer(
    database: Database, world: World
) -> None:
    world.gate.clear()
    held = (*WRITES, Ask("h1", "hold"))
    async with agent_room(database, world, [held, DONE, (Say("Second."),)]) as (here, llm):
        session = await here.session()
        for text in ("write hello", "and then?"):
            request = chat_pb2.SendMessageRequest(message=here.message(session, text))
            [frame async for frame in here.stub.SendMessage(request, timeout=30)]
        world.gate.set()
        log = await here.until(session, ends_with("turn_suspended"))
        await here.stub.RespondToTurn(approve(session, one(log, "approval_requested")), timeout=30)
        log = await here.until(session, lambda events: kinds(events).count("turn_finished") == 2)
        finished = [event for event in log if event.HasField("turn_finished")]
        accepted = [event for event in log if event.HasField("turn_accepted")]
        assert [event.turn_id for event in finished] == [event.turn_id for event in accepted]
        assert len(llm.opened) == 3
        assert world.effects == ["hello"]


@pytest.mark.requirement("CHAT-5")
async def test_a_waiting_turn_can_be_stopped_and_keeps_what_it_said(database: Database, world: World) -> None:
    async with agent_room(database, world, [WRITES]) as (here, _):
        session, log = await ask(here)
        cancel = chat_pb2.CancelTurnRequest(session_id=session, turn_id=log[0].turn_id, request_id=ids.uuid())
        answer = await here.stub.CancelTurn(cancel, timeout=30)
        assert answer.state == session_pb2.TURN_STATE_WAITING
        (*_, last) = await here.log(session)
        partial = last.turn_cancelled.partial
        assert (partial.parts[0].text, partial.partial) == ("I will write. ", True)
        assert await refused(here, approve(session, one(log, "approval_requested"))) == "TURN_NOT_WAITING"


@pytest.mark.requirement("AGT-4")
async def test_a_question_is_answered_by_a_form_that_must_fit(database: Database, world: World) -> None:
    asks = (Ask("q1", "ask_size"),)
    async with agent_room(database, world, [asks, DONE]) as (here, llm):
        session, log = await ask(here, "order a shirt")
        question = one(log, "input_requested")
        assert question.input_requested.message == "Which size?"
        assert list(log[-1].turn_suspended.input_ids) == [question.input_requested.input_id]

        def answer(content: str) -> chat_pb2.RespondToTurnRequest:
            return chat_pb2.RespondToTurnRequest(
                session_id=session,
                turn_id=question.turn_id,
                request_id=ids.uuid(),
                input=chat_pb2.InputAnswer(input_id=question.input_requested.input_id, content_json=content),
            )

        assert await refused(here, answer('{"size":"big"}')) == "INVALID_FIELD"
        await here.stub.RespondToTurn(answer('{"size":42}'), timeout=30)
        await here.until(session, ends_with("turn_finished"))
        (result,) = llm.opened[-1].window.messages[-1].parts
        assert result.tool_result.content == '{"size":42}'


@pytest.mark.requirement("AGT-4")
async def test_an_approval_is_answered_on_the_native_door(database: Database, world: World) -> None:
    async with agent_room(database, world, [WRITES, DONE]) as (here, _):
        session, log = await ask(here)
        asked = one(log, "approval_requested")
        position = session_pb2.SessionCursor(session_id=session, sequence=log[-1].sequence)
        wrong = approve(session, asked, arguments_sha256="0" * 64)
        requests = [
            chat_pb2.ChatRequest(open=chat_pb2.OpenChat(cursors=[position])),
            chat_pb2.ChatRequest(respond=wrong),
            chat_pb2.ChatRequest(respond=approve(session, asked)),
        ]
        call = here.stub.Chat(timeout=30)
        for request in requests:
            await call.write(request)
        seen: list[chat_pb2.ChatResponse] = []
        async for frame in call:
            seen.append(frame)
            if frame.event.HasField("turn_finished"):
                break
        call.cancel()
        (rejected,) = [each.rejected for each in seen if each.HasField("rejected")]
        assert rejected.client_message_id == wrong.request_id
        assert from_status(rejected.status).reason == "APPROVAL_MISMATCH"
        assert world.effects == ["hello"]


async def test_an_open_waiting_turn_is_listed_with_its_end(database: Database, world: World) -> None:
    async with agent_room(database, world, [WRITES]) as (here, _):
        session, log = await ask(here)
        from tests.interaction.context_svc.conversation_room import caller

        listed = await here.sessions.get(caller(), session)
        (waiting,) = listed.open_turns
        assert waiting.state == session_pb2.TURN_STATE_WAITING
        assert waiting.expire_us == log[-1].turn_suspended.expire_time.ToMicroseconds()


@pytest.mark.requirement("OPS-1")
async def test_a_turn_that_was_given_back_goes_on_with_its_results(database: Database) -> None:
    async def gives_back(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        if not stage.start.HasField("resumption"):
            counters = turn_pb2.Counters(steps=3)
            stopped = turn_pb2.Resumption(counters=counters, text="so far")
            yield turn_pb2.RunTurnResponse(suspended=turn_pb2.Suspended(resumption=stopped))
            return
        assert stage.start.resumption.counters.steps == 3
        yield stage.finished("so far, done")

    async with room(database) as here:
        here.orchestrator.play = gives_back
        events = await here.say(await here.session(), "go")
    assert kinds(events) == ["turn_accepted", "turn_started", "turn_started", "turn_finished"]
    assert [event.turn_started.attempt for event in events[1:3]] == [1, 2]
