"""Who runs a turn: a dead owner's turn ends, an unclaimed one starts elsewhere, a fenced owner changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database, Statement, Unit
from chassis.testing import eventually
from context_svc import claims as claiming
from context_svc.claims import ClaimLost
from context_svc.journal import Draft, Kind
from context_svc.run_frames import constant
from tests.interaction.context_svc.conversation_room import ACCOUNT, Room, Stage, kinds, room


async def speaks_and_hangs(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    yield stage.started()
    yield stage.says("half of ")
    yield stage.says("an answer")
    await asyncio.Event().wait()


def expire_owners() -> Unit[None]:
    yield Statement("UPDATE owner SET expire_us = 1")


async def begin(here: Room, *texts: str) -> str:
    here.orchestrator.play = speaks_and_hangs
    session = await here.session()
    for text in texts:
        request = chat_pb2.SendMessageRequest(message=here.message(session, text))
        [frame async for frame in here.stub.SendMessage(request, timeout=30)]
    return session


def said(events: list[chat_pb2.ChatEvent]) -> str:
    return "".join(event.text_delta.text for event in events)


@pytest.mark.requirement("CHAT-4")
async def test_a_dead_owners_turn_ends_and_a_waiting_one_starts_elsewhere(database: Database) -> None:
    async with room(database, owner="first") as here:
        session = await begin(here, "one", "two")
        await here.until(session, lambda events: said(events) == "half of an answer")
    await database.write("owner", expire_owners)  # what ten seconds do
    async with room(database, owner="second") as there:
        await eventually(lambda: len(there.orchestrator.starts) == 1)
        log = await there.until(session, lambda events: kinds(events)[-1] == "turn_finished")
    failed = next(event.turn_failed for event in log if event.HasField("turn_failed"))
    assert failed.reason == error_pb2.ERROR_REASON_OWNER_LOST
    assert failed.retryable
    assert (failed.partial.parts[0].text, failed.partial.partial) == ("half of an answer", True)
    assert kinds(log).count("turn_accepted") == 2
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))


@pytest.mark.requirement("CHAT-4")
async def test_an_owner_that_was_taken_for_dead_writes_nothing_more(database: Database) -> None:
    async with room(database) as here:
        session = await begin(here, "one")
        await eventually(lambda: len(here.runs) == 1)
        await here.until(session, lambda events: said(events) == "half of an answer")
        await database.write("owner", expire_owners)
        (orphan,) = await database.read(lambda: claiming.orphans(database.engine, 2**60))
        await here.runs.bury(orphan)
        late = Draft(kind=Kind.TEXT_DELTA, turn_id=orphan.turn_id, payload=constant(b""))
        with pytest.raises(ClaimLost):
            await database.write(session, lambda: here.claims.append(orphan, [late], 1))
        log = await here.log(session)
        assert kinds(log)[-1] == "turn_failed"


class Held:
    """A store whose answer to the next write, durable already, is held back until `let_go`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.hold = False
        self.held, self.let_go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, aggregate: str, unit: Any, *, committed: Any = None) -> Any:
        result = await self._database.write(aggregate, unit, committed=committed)
        if self.hold:
            self.hold = False
            self.held.set()
            await self.let_go.wait()
        return result


@pytest.mark.requirement("CHAT-2", "CHAT-4")
async def test_a_turn_claimed_for_a_caller_who_is_gone_by_then_runs_all_the_same(database: Database) -> None:
    store = Held(database)
    async with room(cast(Database, store)) as here:
        session = await here.session()
        store.hold = True
        sending = here.stub.SendMessage(
            chat_pb2.SendMessageRequest(message=here.message(session, "hello")), timeout=10
        )
        waiting = asyncio.ensure_future(sending.read())
        await asyncio.wait_for(store.held.wait(), 30)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        store.let_go.set()
        log = await here.until(session, lambda events: kinds(events)[-1] == "turn_finished")
    assert kinds(log)[0] == "turn_accepted"


@pytest.mark.slow
@pytest.mark.requirement("CHAT-2", "CHAT-4")
async def test_a_claim_whose_answer_was_lost_ends_its_turn_and_lets_the_next_begin(
    database: Database,
) -> None:
    async with room(database) as here:
        session = await begin(here, "one", "two")
        await here.until(session, lambda events: said(events) == "half of an answer")
        (claim,) = await database.read(lambda: claiming.held(here.claims.owner))
        here.runs.stop(claim.turn_id, "")
        await here.until(session, lambda events: "turn_cancelled" in kinds(events))
        await eventually(lambda: len(here.orchestrator.starts) == 2)
        other = await here.session()
        place = here.schedule.place(other, ACCOUNT)  # nobody runs what is claimed here
        request = chat_pb2.SendMessageRequest(message=here.message(other, "three"))
        [frame async for frame in here.stub.SendMessage(request, timeout=30)]
        taken = await database.write(other, lambda: here.claims.take(other, 1))
        assert taken is not None
        log = await here.until(other, lambda events: kinds(events)[-1] == "turn_failed")
        assert log[-1].turn_failed.reason == error_pb2.ERROR_REASON_OWNER_LOST
        here.schedule.give_back(place)


async def test_a_stream_of_quick_deltas_is_joined_into_few_events(database: Database) -> None:
    async def quick(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        for _ in range(1000):
            yield stage.says("word ")
        yield stage.finished("word " * 1000)

    async with room(database) as here:
        here.orchestrator.play = quick
        events = await here.say(await here.session(), "go")
        deltas = [event for event in events if event.HasField("text_delta")]
        assert "".join(event.text_delta.text for event in deltas) == "word " * 1000
        assert deltas[0].text_delta.text  # the first goes out at once
        assert len(deltas) < 100
