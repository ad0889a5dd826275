"""Messages sent together: an outcome for each, their order kept within a session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from chassis.database import Database
from chassis.status import from_rpc_error, from_status
from tests.interaction.context_svc.conversation_room import Room, kinds, room
from tests.interaction.context_svc.test_busy import speaking


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Room]:
    async with room(database) as running:
        yield running


async def send(here: Room, *messages: chat_pb2.NewMessage) -> list[chat_pb2.SendOutcome]:
    request = chat_pb2.SendMessageBatchRequest(messages=messages)
    return list((await here.stub.SendMessageBatch(request, timeout=20)).outcomes)


@pytest.mark.requirement("CHAT-2")
async def test_a_hundred_messages_of_several_sessions_are_each_accepted_once_and_in_order(here: Room) -> None:
    sessions = [await here.session() for _ in range(5)]
    messages = [here.message(sessions[n % 5], f"{n}") for n in range(100)]
    first, second = await send(here, *messages), await send(here, *messages)
    assert first == second
    assert [each.client_message_id for each in first] == [each.client_message_id for each in messages]
    for number, session in enumerate(sessions):
        log = await here.until(session, lambda events: kinds(events).count("turn_finished") == 20)
        said = [event.turn_accepted.message.parts[0].text for event in log if event.HasField("turn_accepted")]
        assert said == [f"{n}" for n in range(number, 100, 5)]
    assert len(here.orchestrator.starts) == 100


@pytest.mark.requirement("CHAT-2")
async def test_one_bad_message_spoils_no_other(here: Room) -> None:
    session = await here.session()
    bad, nowhere = here.message(session, ""), here.message("nowhere", "hello")
    done = await send(here, here.message(session, "one"), bad, nowhere, here.message(session, "two"))
    assert [each.WhichOneof("outcome") for each in done] == ["accepted", "refused", "refused", "accepted"]
    unreadable = from_status(done[1].refused)
    assert (unreadable.reason, unreadable.violations[0].field) == ("INVALID_FIELD", "message.parts[0].text")
    assert from_status(done[2].refused).reason == "SESSION_NOT_FOUND"


@pytest.mark.requirement("CHAT-2")
async def test_after_a_passing_refusal_the_later_ones_of_its_session_are_not_tried(here: Room) -> None:
    busy, free = await speaking(here), await here.session()
    refused = here.message(busy, "one", busy_policy=chat_pb2.BUSY_POLICY_REJECT)
    done = await send(here, refused, here.message(free, "two"), here.message(busy, "three"))
    assert [each.WhichOneof("outcome") for each in done] == ["refused", "accepted", "skipped"]
    assert from_status(done[0].refused).reason == "TURN_RUNNING"


async def test_an_empty_batch_is_refused(here: Room) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(here)
    failure = from_rpc_error(caught.value)
    assert (failure.reason, failure.violations[0].field) == ("INVALID_FIELD", "messages")
