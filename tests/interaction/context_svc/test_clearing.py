"""An emptied session: nothing of it is left for any device, any prompt or the store, and its ids stay used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.status import from_rpc_error
from chassis.testing import eventually
from tests.interaction.context_svc.conversation_room import Room, kinds, room
from tests.interaction.context_svc.test_busy import hangs, send


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Room]:
    async with room(database) as running:
        yield running


async def clear(here: Room, session: str, request_id: str = "") -> int:
    request = chat_pb2.ClearMessagesRequest(session_id=session, request_id=request_id or ids.uuid())
    return (await here.stub.ClearMessages(request, timeout=30)).through_sequence


def leftovers(session: str) -> Unit[list[bytes]]:
    found: list[bytes] = []
    for table in ("message", "event"):
        rows = yield Statement(
            f"SELECT data FROM {table} WHERE session_id = :session",
            {"session": session},
        )
        found += [bytes(row["data"]) for row in rows]
    return found


@pytest.mark.requirement("CHAT-10")
async def test_a_cleared_session_is_empty_for_every_reader_and_the_next_prompt(here: Room) -> None:
    session = await here.session()
    before = await here.say(session, "a secret")
    watching = here.stub.SubscribeEvents(
        chat_pb2.SubscribeEventsRequest(
            cursors=[session_pb2.SessionCursor(session_id=session, sequence=before[-1].sequence)]
        ),
        timeout=10,
    )
    frames = aiter(watching)
    assert (await anext(frames)).HasField("heartbeat")

    assert await clear(here, session) == before[-1].sequence

    live = (await anext(frames)).event
    assert live.messages_cleared.through_sequence == before[-1].sequence
    assert live.sequence == before[-1].sequence + 1
    watching.cancel()
    page = await here.stub.ListEvents(
        chat_pb2.ListEventsRequest(session_id=session, after_sequence=1), timeout=20
    )
    assert page.HasField("snapshot")
    assert list(page.snapshot.messages) == []
    assert page.next.sequence == live.sequence
    listed = await here.stub.ListMessages(chat_pb2.ListMessagesRequest(session_id=session), timeout=30)
    assert list(listed.messages) == []
    assert not any(b"a secret" in data for data in await here.database.read(lambda: leftovers(session)))

    events = await here.say(session, "what did I say?")
    assert [m.parts[0].text for m in here.orchestrator.starts[-1].material.messages] == ["what did I say?"]
    assert events[0].sequence == live.sequence + 1
    assert events[0].turn_accepted.message.parent_id == ""


@pytest.mark.requirement("CHAT-10")
async def test_clearing_cuts_off_running_and_queued_turns_and_they_leave_nothing(here: Room) -> None:
    here.orchestrator.play = hangs
    session = await here.session()
    first = chat_pb2.SendMessageRequest(message=here.message(session, "first"), follow=True)
    following = here.stub.SendMessage(first, timeout=30)
    seen = []
    async for frame in following:
        seen.append(frame.event)
        if frame.event.HasField("text_delta"):
            await send(here, session, "second")
            await clear(here, session)
    assert kinds(seen)[-1] == "turn_cancelled"
    assert not seen[-1].turn_cancelled.HasField("partial")
    await eventually(lambda: len(here.runs) == 0)
    log = await here.stub.ListEvents(chat_pb2.ListEventsRequest(session_id=session), timeout=30)
    assert log.HasField("snapshot")
    assert (list(log.snapshot.open_turns), list(log.snapshot.messages)) == ([], [])
    assert len(await here.database.read(lambda: leftovers(session))) == 1  # MessagesCleared
    assert len(here.orchestrator.starts) == 1


@pytest.mark.requirement("CHAT-10")
async def test_clearing_again_under_the_same_id_clears_once(here: Room) -> None:
    session, request_id = await here.session(), ids.uuid()
    await here.say(session, "old")
    results = await asyncio.gather(*(clear(here, session, request_id) for _ in range(5)))
    assert len(set(results)) == 1
    kept = await here.say(session, "new")
    assert await clear(here, session, request_id) == results[0]
    listed = await here.stub.ListMessages(chat_pb2.ListMessagesRequest(session_id=session), timeout=30)
    assert [message.parts[0].text for message in listed.messages] == ["you said: new", "new"]
    assert kept[-1].sequence > results[0]


@pytest.mark.requirement("CHAT-10")
async def test_an_id_that_was_used_before_the_clearing_runs_nothing_again(here: Room) -> None:
    session, message_id = await here.session(), ids.uuid()
    await here.say(session, "once", client_message_id=message_id)
    await clear(here, session)
    request = chat_pb2.SendMessageRequest(message=here.message(session, "once", client_message_id=message_id))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [_ async for _ in here.stub.SendMessage(request, timeout=30)]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(here.orchestrator.starts) == 1


async def test_only_its_owner_can_clear_a_session(here: Room) -> None:
    foreign = await here.session(account="account-2")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clear(here, foreign)
    assert from_rpc_error(caught.value).reason == "SESSION_NOT_FOUND"
