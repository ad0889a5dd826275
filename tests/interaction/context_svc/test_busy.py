"""A second message while a turn is open: it waits, is refused or interrupts, also when the process ends in between."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database
from chassis.status import from_rpc_error
from chassis.testing import eventually
from tests.interaction.context_svc.conversation_room import Room, Stage, kinds, room
from tests.interaction.context_svc.test_owners import expire_owners, speaks_and_hangs

INTERRUPT = chat_pb2.BUSY_POLICY_INTERRUPT


async def send(here: Room, session: str, text: str, **fields: object) -> chat_pb2.ChatEvent:
    request = chat_pb2.SendMessageRequest(message=here.message(session, text, **fields))
    (frame,) = [frame async for frame in here.stub.SendMessage(request, timeout=30)]
    return frame.event


async def speaking(here: Room) -> str:
    """A session in which a turn has said a little and goes on."""
    here.orchestrator.play = speaks_and_hangs
    session = await here.session()
    await send(here, session, "first")
    await here.until(session, lambda events: "an answer" in events[-1].text_delta.text)
    return session


async def hangs(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    """Hear nothing, not even that it should stop."""
    yield stage.started()
    yield stage.says("half of an answer")
    while True:
        await stage.cancelled.wait()
        stage.cancelled.clear()


@pytest.mark.requirement("CHAT-6")
async def test_queued_messages_are_answered_in_order_after_a_restart(database: Database) -> None:
    async with room(database, owner="first") as here:
        session = await speaking(here)
        for text in ("second", "third"):
            await send(here, session, text)
    await database.write("owner", expire_owners)
    async with room(database, owner="second") as there:
        log = await there.until(session, lambda events: kinds(events).count("turn_finished") == 2)
        asked = [start.material.messages[-1].parts[0].text for start in there.orchestrator.starts]
    assert asked == ["second", "third"]
    assert kinds(log).count("turn_failed") == 1


@pytest.mark.requirement("CHAT-6")
async def test_a_refused_message_leaves_nothing_behind(database: Database) -> None:
    async with room(database, owner="first") as here:
        session = await speaking(here)
        refused = here.message(session, "second", busy_policy=chat_pb2.BUSY_POLICY_REJECT)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [_ async for _ in here.stub.SendMessage(chat_pb2.SendMessageRequest(message=refused), timeout=30)]
        assert from_rpc_error(caught.value).reason == "TURN_RUNNING"
    await database.write("owner", expire_owners)
    async with room(database, owner="second") as there:
        await there.until(session, lambda events: kinds(events)[-1] == "turn_failed")
        assert kinds(await there.log(session)).count("turn_accepted") == 1
        again = [
            f.event
            async for f in there.stub.SendMessage(chat_pb2.SendMessageRequest(message=refused), timeout=30)
        ]
        assert again[0].turn_accepted.message.id == refused.client_message_id


@pytest.mark.requirement("CHAT-6")
async def test_an_interruption_holds_when_the_process_ends_before_it_was_carried_out(
    database: Database,
) -> None:
    async with room(database, owner="first") as here:
        here.orchestrator.play = hangs
        session = await here.session()
        await send(here, session, "first")
        await here.until(session, lambda events: events[-1].text_delta.text == "half of an answer")
        await send(here, session, "second", busy_policy=INTERRUPT)
    await database.write("owner", expire_owners)
    async with room(database, owner="second") as there:
        log = await there.until(session, lambda events: kinds(events)[-1] == "turn_finished")
        assert [start.material.messages[-1].parts[0].text for start in there.orchestrator.starts] == [
            "second"
        ]
    (cancelled,) = [event.turn_cancelled for event in log if event.HasField("turn_cancelled")]
    assert (cancelled.partial.parts[0].text, cancelled.partial.partial) == ("half of an answer", True)


@pytest.mark.requirement("CHAT-6")
async def test_an_interruption_stops_queued_turns_too(database: Database) -> None:
    async with room(database) as here:
        session = await speaking(here)
        await send(here, session, "second")

        async def answers(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
            yield stage.started()
            yield stage.finished("done")

        here.orchestrator.play = answers
        events = await here.say(session, "third", busy_policy=INTERRUPT)
        assert kinds(events)[-1] == "turn_finished"
        assert kinds(await here.log(session)).count("turn_cancelled") == 2
        await eventually(lambda: len(here.runs) == 0)
        assert len(here.orchestrator.starts) == 2
