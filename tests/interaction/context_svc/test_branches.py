"""Branches: edits, other answers and imported ones stand beside what was there, and nothing is rewritten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.database import Database
from chassis.status import from_rpc_error
from tests.interaction.context_svc.conversation_room import Room, Stage, kinds, room


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Room]:
    async with room(database) as running:
        yield running


async def texts(here: Room, session: str, **fields: object) -> list[str]:
    request = chat_pb2.ListMessagesRequest(
        session_id=session,
        order=chat_pb2.LIST_ORDER_OLDEST_FIRST,
        **fields,  # type: ignore[arg-type]
    )
    found = []
    while True:
        page = await here.stub.ListMessages(request, timeout=30)
        found += [message.parts[0].text for message in page.messages]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def finished(here: Room, session: str, turn: str) -> chat_pb2.ChatEvent:
    log = await here.until(
        session, lambda events: events[-1].turn_id == turn and kinds(events)[-1] == "turn_finished"
    )
    return log[-1]


def edit(
    here: Room, session: str, message_id: str, text: str, **fields: object
) -> chat_pb2.EditMessageRequest:
    return chat_pb2.EditMessageRequest(
        session_id=session, message_id=message_id, replacement=here.message(session, text, **fields)
    )


@pytest.mark.requirement("CHAT-9")
async def test_an_edit_is_a_branch_and_the_old_one_stays(here: Room) -> None:
    session = await here.session()
    one = await here.say(session, "one")
    two = await here.say(session, "two")
    before = await here.log(session)
    request = edit(here, session, two[0].turn_accepted.message.id, "2")
    results = await asyncio.gather(*(here.stub.EditMessage(request, timeout=30) for _ in range(5)))
    accepted = results[0].accepted
    assert all(each == results[0] for each in results)
    assert accepted.turn_accepted.message.parent_id == one[-1].turn_finished.message.id
    last = await finished(here, session, accepted.turn_id)
    given = [message.parts[0].text for message in here.orchestrator.starts[-1].material.messages]
    assert given == ["one", "you said: one", "2"]
    assert (await here.log(session))[: len(before)] == before
    old, new = two[-1].turn_finished.message.id, last.turn_finished.message.id
    assert await texts(here, session, leaf_id=old) == ["one", "you said: one", "two", "you said: two"]
    assert await texts(here, session, leaf_id=new, page_size=3) == [
        "one",
        "you said: one",
        "2",
        "you said: 2",
    ]
    assert len(await texts(here, session)) == 6
    follow_up = await here.say(session, "and?")
    assert follow_up[0].turn_accepted.message.parent_id == new


@pytest.mark.requirement("CHAT-9")
async def test_a_branch_pages_from_its_newest_message(here: Room) -> None:
    session = await here.session()
    for text in ("a", "b", "c"):
        events = await here.say(session, text)
    request = chat_pb2.ListMessagesRequest(
        session_id=session, leaf_id=events[-1].turn_finished.message.id, page_size=4
    )
    first = await here.stub.ListMessages(request, timeout=30)
    await here.say(session, "written meanwhile")
    request.page_token = first.next_page_token
    second = await here.stub.ListMessages(request, timeout=30)
    found = [message.parts[0].text for message in (*first.messages, *second.messages)]
    assert found == ["you said: c", "c", "you said: b", "b", "you said: a", "a"]
    assert not second.next_page_token


@pytest.mark.requirement("CHAT-9")
async def test_another_answer_stands_beside_the_first(here: Room) -> None:
    session = await here.session()
    first = await here.say(session, "one")
    request = chat_pb2.RegenerateTurnRequest(
        session_id=session, turn_id=first[0].turn_id, request_id=ids.uuid()
    )
    results = await asyncio.gather(*(here.stub.RegenerateTurn(request, timeout=30) for _ in range(5)))
    accepted = results[0].accepted
    assert all(each == results[0] for each in results)
    assert accepted.turn_accepted.regenerated_turn_id == first[0].turn_id
    assert accepted.turn_accepted.message == first[0].turn_accepted.message
    last = await finished(here, session, accepted.turn_id)
    answers = [first[-1].turn_finished.message, last.turn_finished.message]
    assert answers[0].parent_id == answers[1].parent_id
    assert answers[0].id != answers[1].id
    assert len(here.orchestrator.starts) == 2


@pytest.mark.requirement("CHAT-9")
async def test_a_failed_try_again_leaves_the_first_answer_in_the_branch(here: Room) -> None:
    session = await here.session()
    first = await here.say(session, "one")

    async def fails(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.failed(error_pb2.ERROR_REASON_PROVIDER_FAILED)

    played, here.orchestrator.play = here.orchestrator.play, fails
    request = chat_pb2.RegenerateTurnRequest(
        session_id=session, turn_id=first[0].turn_id, request_id=ids.uuid()
    )
    await here.stub.RegenerateTurn(request, timeout=30)
    await here.until(session, lambda events: kinds(events)[-1] == "turn_failed")
    here.orchestrator.play = played
    events = await here.say(session, "two")
    assert events[0].turn_accepted.message.parent_id == first[-1].turn_finished.message.id


@pytest.mark.requirement("CHAT-9")
async def test_what_cannot_be_branched_is_refused(here: Room) -> None:
    session, other = await here.session(), await here.session()
    events = await here.say(session, "one")
    answer = events[-1].turn_finished.message.id
    mixed = edit(here, session, events[0].turn_accepted.message.id, "2")
    mixed.replacement.session_id = other

    async def refused(request: chat_pb2.EditMessageRequest) -> str | None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await here.stub.EditMessage(request, timeout=30)
        return from_rpc_error(caught.value).reason

    assert await refused(edit(here, session, answer, "2")) == "INVALID_FIELD"
    assert await refused(edit(here, session, "nothing", "2")) == "MESSAGE_NOT_FOUND"
    assert await refused(mixed) == "INVALID_FIELD"
    used = events[0].turn_accepted.message.id
    assert await refused(edit(here, session, used, "one", client_message_id=used)) == "IDEMPOTENCY_KEY_REUSED"
    again = chat_pb2.RegenerateTurnRequest(session_id=session, turn_id="none", request_id=ids.uuid())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.stub.RegenerateTurn(again, timeout=30)
    assert from_rpc_error(caught.value).reason == "TURN_NOT_FOUND"


def offline(here: Room, session: str, mode: chat_pb2.ImportMode.ValueType) -> chat_pb2.ImportAnswerRequest:
    return chat_pb2.ImportAnswerRequest(
        message=here.message(session, "asked on a plane"),
        answer=[message_pb2.Part(text="answered on a plane")],
        model="pocket-1",
        mode=mode,
    )


@pytest.mark.requirement("CHAT-17")
async def test_an_answer_made_offline_is_kept_with_its_model_named(here: Room) -> None:
    session = await here.session()
    request = offline(here, session, chat_pb2.IMPORT_MODE_KEEP)
    results = await asyncio.gather(*(here.stub.ImportAnswer(request, timeout=30) for _ in range(5)))
    assert all(each == results[0] for each in results)
    imported = results[0].imported.answer_imported
    assert not results[0].HasField("accepted")
    assert (imported.answer.imported_model, imported.answer.turn_id) == ("pocket-1", "")
    assert imported.answer.parent_id == imported.message.id == request.message.client_message_id
    assert here.orchestrator.starts == []
    assert kinds(await here.log(session)) == ["answer_imported"]
    await here.say(session, "and now?")
    given = [message.parts[0].text for message in here.orchestrator.starts[-1].material.messages]
    assert given == ["asked on a plane", "answered on a plane", "and now?"]
    assert await texts(here, session, page_size=1) == [*given, "you said: and now?"]


@pytest.mark.requirement("CHAT-17")
async def test_an_answer_made_offline_can_be_replaced_and_stays_as_a_branch(here: Room) -> None:
    session = await here.session()
    request = offline(here, session, chat_pb2.IMPORT_MODE_REPLACE)
    result = await here.stub.ImportAnswer(request, timeout=30)
    assert result.imported.answer_imported.replaced
    assert result.accepted.sequence == result.imported.sequence + 1
    last = await finished(here, session, result.accepted.turn_id)
    answers = [result.imported.answer_imported.answer, last.turn_finished.message]
    assert [each.parent_id for each in answers] == [request.message.client_message_id] * 2
    log = await here.log(session)
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    assert await here.stub.ImportAnswer(request, timeout=30) == result


@pytest.mark.requirement("CHAT-17")
async def test_only_words_can_be_imported(here: Room) -> None:
    request = offline(here, await here.session(), chat_pb2.IMPORT_MODE_KEEP)
    request.answer.append(message_pb2.Part(location=message_pb2.LocationPart(latitude=1, longitude=2)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.stub.ImportAnswer(request, timeout=30)
    failure = from_rpc_error(caught.value)
    assert (failure.reason, failure.violations[0].field) == ("INVALID_FIELD", "answer[1]")
