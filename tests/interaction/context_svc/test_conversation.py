"""A conversation over real gRPC: accepted once, run, logged, followed, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.status import from_rpc_error, from_status
from chassis.testing import eventually
from tests.interaction.context_svc.conversation_room import Room, Stage, kinds, room

ANSWERED = ["turn_accepted", "turn_started", "text_delta", "turn_finished"]


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Room]:
    async with room(database) as running:
        yield running


async def refusal(call: AsyncIterable[chat_pb2.SendMessageResponse]) -> str | None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [frame async for frame in call]
    return from_rpc_error(caught.value).reason


@pytest.mark.requirement("CHAT-1")
async def test_a_message_is_accepted_run_and_answered_in_one_stream(here: Room) -> None:
    session = await here.session()
    events = await here.say(session, "hello")
    joined = [
        kind for index, kind in enumerate(kinds(events)) if index == 0 or kind != kinds(events)[index - 1]
    ]
    assert joined == ANSWERED
    assert "".join(event.text_delta.text for event in events) == "you said: hello"
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    finished = events[-1].turn_finished.message
    assert finished.parts[0].text == "you said: hello"
    assert finished.sequence == events[-1].sequence
    assert finished.parent_id == events[0].turn_accepted.message.id
    assert finished.id == events[1].turn_started.answer_id


@pytest.mark.requirement("CHAT-1")
async def test_every_reading_door_gives_the_same_events(here: Room) -> None:
    session = await here.session()
    sent = await here.say(session, "hello")
    logged = await here.log(session)
    followed = await here.until(session, lambda events: len(events) == len(sent))
    assert [event.SerializeToString(deterministic=True) for event in followed] == [
        event.SerializeToString(deterministic=True) for event in sent
    ]
    assert followed == logged


def stored_events(session: str) -> Unit[list[bytes]]:
    rows = yield Statement("SELECT data FROM event WHERE session_id = :session", {"session": session})
    return [row["data"] for row in rows]


async def test_no_stored_event_says_a_field_twice(here: Room) -> None:
    """A JSON transcoder ends a stream whose message has a singular field twice."""
    session = await here.session()
    await here.say(session, "hello")
    here.orchestrator.play = breaks_off
    await here.say(session, "hello")
    stored = await here.database.read(lambda: stored_events(session))
    assert len(stored) > 6
    assert all(chat_pb2.ChatEvent.FromString(data).ByteSize() == len(data) for data in stored)


async def test_the_history_holds_what_was_said(here: Room) -> None:
    session = await here.session()
    for text in ("one", "two", "three"):
        await here.say(session, text)
    request = chat_pb2.ListMessagesRequest(
        session_id=session, page_size=4, order=chat_pb2.LIST_ORDER_OLDEST_FIRST
    )
    first = await here.stub.ListMessages(request, timeout=30)
    request.page_token = first.next_page_token
    second = await here.stub.ListMessages(request, timeout=30)
    texts = [message.parts[0].text for message in (*first.messages, *second.messages)]
    assert texts == ["one", "you said: one", "two", "you said: two", "three", "you said: three"]
    assert not second.next_page_token


async def test_the_orchestrator_is_given_the_branch_that_it_answers(here: Room) -> None:
    session = await here.session()
    await here.say(session, "one")
    await here.say(session, "two")
    given = [message.parts[0].text for message in here.orchestrator.starts[-1].material.messages]
    assert given == ["one", "you said: one", "two"]


async def test_a_message_sent_while_another_is_answered_follows_that_answer(here: Room) -> None:
    session = await here.session()
    requests = [chat_pb2.ChatRequest(open=chat_pb2.OpenChat())]
    requests += [
        chat_pb2.ChatRequest(message=here.message(session, text)) for text in ("one", "two", "three")
    ]
    [frame async for frame in here.stub.Chat(iter(requests), timeout=30)]
    given = [message.parts[0].text for message in here.orchestrator.starts[-1].material.messages]
    assert given == ["one", "you said: one", "two", "you said: two", "three"]


async def test_a_message_that_got_no_answer_stays_in_the_branch(here: Room) -> None:
    async def fails(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.failed(error_pb2.ERROR_REASON_PROVIDER_FAILED)

    here.orchestrator.play = fails
    session = await here.session()
    requests = [chat_pb2.ChatRequest(open=chat_pb2.OpenChat())]
    requests += [chat_pb2.ChatRequest(message=here.message(session, text)) for text in ("one", "two")]
    [frame async for frame in here.stub.Chat(iter(requests), timeout=30)]
    await here.say(session, "three")
    starts = [[m.parts[0].text for m in start.material.messages] for start in here.orchestrator.starts]
    assert starts == [["one"], ["one", "two"], ["one", "two", "three"]]


@pytest.mark.requirement("CHAT-2")
async def test_the_same_message_sent_many_times_at_once_runs_once(here: Room) -> None:
    session, message_id = await here.session(), ids.uuid()
    logs = await asyncio.gather(
        *(here.say(session, "hello", client_message_id=message_id) for _ in range(20))
    )
    assert len(here.orchestrator.starts) == 1
    assert all(log == logs[0] for log in logs)


async def test_an_id_used_again_for_other_words_is_refused(here: Room) -> None:
    session, message_id = await here.session(), ids.uuid()
    await here.say(session, "hello", client_message_id=message_id)
    request = chat_pb2.SendMessageRequest(
        message=here.message(session, "other", client_message_id=message_id), follow=True
    )
    assert await refusal(here.stub.SendMessage(request, timeout=30)) == "IDEMPOTENCY_KEY_REUSED"


async def test_without_follow_the_stream_ends_with_the_acceptance(here: Room) -> None:
    session = await here.session()
    request = chat_pb2.SendMessageRequest(message=here.message(session, "hello"))
    frames = [frame async for frame in here.stub.SendMessage(request, timeout=30)]
    assert [frame.event.WhichOneof("event") for frame in frames] == ["turn_accepted"]


async def test_a_session_of_somebody_else_is_not_found(here: Room) -> None:
    foreign = await here.session(account="account-2")
    request = chat_pb2.SendMessageRequest(message=here.message(foreign, "hello"))
    assert await refusal(here.stub.SendMessage(request, timeout=30)) == "SESSION_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.log(foreign)
    assert from_rpc_error(caught.value).reason == "SESSION_NOT_FOUND"


async def test_a_cursor_ahead_of_the_log_is_refused(here: Room) -> None:
    session = await here.session()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.stub.ListEvents(
            chat_pb2.ListEventsRequest(session_id=session, after_sequence=5), timeout=20
        )
    assert from_rpc_error(caught.value).reason == "CURSOR_AHEAD"


async def hold_until_cancelled(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    yield stage.started()
    yield stage.says("I was saying")
    await stage.cancelled.wait()
    yield stage.stopped("I was saying")


@pytest.mark.requirement("CHAT-5")
async def test_cancelling_keeps_what_was_said(here: Room) -> None:
    here.orchestrator.play = hold_until_cancelled
    session = await here.session()
    request = chat_pb2.SendMessageRequest(message=here.message(session, "hello"), follow=True)
    events: list[chat_pb2.ChatEvent] = []
    async for frame in here.stub.SendMessage(request, timeout=30):
        events.append(frame.event)
        if frame.event.WhichOneof("event") == "text_delta":
            cancel = chat_pb2.CancelTurnRequest(
                session_id=session, turn_id=frame.event.turn_id, request_id=ids.uuid()
            )
            await here.stub.CancelTurn(cancel, timeout=30)
    assert kinds(events)[-1] == "turn_cancelled"
    partial = events[-1].turn_cancelled.partial
    assert (partial.parts[0].text, partial.partial) == ("I was saying", True)
    assert events[-1].turn_cancelled.device_id == "device-1"
    again = await here.stub.CancelTurn(cancel, timeout=30)
    assert again.state == session_pb2.TURN_STATE_CANCELLED


async def test_a_queued_turn_that_is_cancelled_never_starts(here: Room) -> None:
    here.orchestrator.play = hold_until_cancelled
    session = await here.session()
    accepted = []
    for text in ("first", "second"):
        request = chat_pb2.SendMessageRequest(message=here.message(session, text))
        accepted += [frame.event async for frame in here.stub.SendMessage(request, timeout=30)]
    await eventually(lambda: len(here.orchestrator.starts) == 1)
    for event in reversed(accepted):
        cancel = chat_pb2.CancelTurnRequest(session_id=session, turn_id=event.turn_id, request_id=ids.uuid())
        await here.stub.CancelTurn(cancel, timeout=30)
    await eventually(lambda: len(here.runs) == 0)
    assert len(here.orchestrator.starts) == 1
    log = await here.log(session)
    assert kinds(log).count("turn_cancelled") == 2


async def test_a_message_that_will_not_wait_is_refused_while_a_turn_runs(here: Room) -> None:
    here.orchestrator.play = hold_until_cancelled
    session = await here.session()
    first = chat_pb2.SendMessageRequest(message=here.message(session, "first"))
    [frame async for frame in here.stub.SendMessage(first, timeout=30)]
    second = here.message(session, "second", busy_policy=chat_pb2.BUSY_POLICY_REJECT)
    reason = await refusal(here.stub.SendMessage(chat_pb2.SendMessageRequest(message=second), timeout=30))
    assert reason == "TURN_RUNNING"


async def test_a_message_that_interrupts_stops_the_running_turn(here: Room) -> None:
    here.orchestrator.play = hold_until_cancelled
    session = await here.session()
    first = chat_pb2.SendMessageRequest(message=here.message(session, "first"))
    [frame async for frame in here.stub.SendMessage(first, timeout=30)]
    await eventually(lambda: len(here.orchestrator.starts) == 1)

    async def then_answers(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        yield stage.finished("done")

    here.orchestrator.play = then_answers
    events = await here.say(session, "second", busy_policy=chat_pb2.BUSY_POLICY_INTERRUPT)
    assert kinds(events)[-1] == "turn_finished"
    assert kinds(await here.log(session)).count("turn_cancelled") == 1


async def breaks_off(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    yield stage.started()
    yield stage.says("half of ")
    raise RuntimeError("the orchestrator died")


@pytest.mark.requirement("CHAT-15")
async def test_an_orchestrator_that_breaks_off_fails_the_turn_with_what_it_said(here: Room) -> None:
    here.orchestrator.play = breaks_off
    events = await here.say(await here.session(), "hello")
    failed = events[-1].turn_failed
    assert failed.reason == error_pb2.ERROR_REASON_PEER_UNAVAILABLE
    assert failed.retryable
    assert (failed.partial.parts[0].text, failed.partial.partial) == ("half of ", True)


async def test_a_failure_of_the_orchestrator_is_passed_on(here: Room) -> None:
    async def fails(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.failed(error_pb2.ERROR_REASON_STEP_LIMIT)

    here.orchestrator.play = fails
    events = await here.say(await here.session(), "hello")
    assert events[-1].turn_failed.reason == error_pb2.ERROR_REASON_STEP_LIMIT


@pytest.mark.requirement("CHAT-1")
async def test_the_native_door_answers_a_bad_frame_in_band_and_stays_up(here: Room) -> None:
    session = await here.session()
    bad, good = here.message(session, ""), here.message(session, "hello")
    requests = [
        chat_pb2.ChatRequest(open=chat_pb2.OpenChat()),
        chat_pb2.ChatRequest(message=bad),
        chat_pb2.ChatRequest(message=good),
    ]
    frames = [frame async for frame in here.stub.Chat(iter(requests), timeout=30)]
    rejected = [frame.rejected for frame in frames if frame.WhichOneof("frame") == "rejected"]
    assert [each.client_message_id for each in rejected] == [bad.client_message_id]
    failure = from_status(rejected[0].status)
    assert failure.reason == "INVALID_FIELD"
    assert failure.violations[0].field == "message.parts[0].text"
    assert frames[-1].closed.reason == chat_pb2.CLOSE_REASON_DONE
    events = [frame.event for frame in frames if frame.WhichOneof("frame") == "event"]
    assert (kinds(events)[0], kinds(events)[-1]) == ("turn_accepted", "turn_finished")


async def test_a_frame_before_open_is_refused_in_band(here: Room) -> None:
    session = await here.session()
    requests = [chat_pb2.ChatRequest(message=here.message(session, "hello"))]
    frames = [frame async for frame in here.stub.Chat(iter(requests), timeout=30)]
    rejected = [frame.rejected for frame in frames if frame.WhichOneof("frame") == "rejected"]
    assert from_status(rejected[0].status).reason == "FRAME_UNEXPECTED"


async def test_one_subscription_follows_every_session_also_new_ones(here: Room) -> None:
    subscription = here.stub.SubscribeEvents(chat_pb2.SubscribeEventsRequest(all_sessions=True), timeout=30)
    frames = aiter(subscription)
    assert (await anext(frames)).WhichOneof("frame") == "heartbeat"
    sessions = [await here.session() for _ in range(3)]
    await asyncio.gather(*(here.say(session, "hello") for session in sessions))
    seen: dict[str, list[int]] = {session: [] for session in sessions}
    ended = 0
    while ended < 3:
        frame = await anext(frames)
        seen[frame.event.session_id].append(frame.event.sequence)
        ended += frame.event.WhichOneof("event") == "turn_finished"
    subscription.cancel()
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seen.values())


async def test_a_poll_that_waits_is_answered_by_the_next_event(here: Room) -> None:
    session = await here.session()
    request = chat_pb2.ListEventsRequest(session_id=session)
    request.wait.FromSeconds(20)
    poll = asyncio.ensure_future(here.stub.ListEvents(request, timeout=30))
    await eventually(lambda: len(here.readers) == 1)
    await here.say(session, "hello")
    page = await poll
    assert page.events[0].WhichOneof("event") == "turn_accepted"
    assert page.next.sequence == page.events[-1].sequence


async def test_a_reader_that_cannot_keep_up_still_gets_every_event(here: Room) -> None:
    async def talks(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        for number in range(600):
            yield stage.says(f"{number} " * 300)
        yield stage.finished("done")

    here.orchestrator.play = talks
    session = await here.session()
    slow = here.stub.SubscribeEvents(
        chat_pb2.SubscribeEventsRequest(cursors=[session_pb2.SessionCursor(session_id=session)]), timeout=30
    )
    frames = aiter(slow)
    await anext(frames)
    await here.say(session, "go on")  # nobody reads `slow` meanwhile
    sequences: list[int] = []
    while True:
        frame = await anext(frames)
        sequences.append(frame.event.sequence)
        if frame.event.WhichOneof("event") == "turn_finished":
            break
    slow.cancel()
    assert sequences == list(range(1, len(sequences) + 1))
