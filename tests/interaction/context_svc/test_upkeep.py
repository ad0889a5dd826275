"""Upkeep: logs are compacted a day after, private sessions leave nothing but what they cost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.session.v1 import session_pb2
from chassis.database import Database, Row, Statement, Unit
from chassis.dial import streaming
from chassis.testing import FakeClock
from context_svc.compaction import Compaction
from context_svc.job_rows import JobState
from context_svc.ledger import Ledger
from context_svc.sessions import NewSession
from tests.conftest import Place
from tests.interaction.context_svc.conversation_room import ACCOUNT, Room, caller, kinds, room

DAY = timedelta(days=1)
PIECES = {"text_delta", "reasoning_delta", "tool_progress"}


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PostgreSQL go by the test's clock too, where jobs are claimed."""

    def now(engine: object, now_us: int) -> Unit[int]:
        yield Statement("SELECT 1 AS one")
        return now_us

    monkeypatch.setattr("context_svc.job_rows.database_now", now)
    monkeypatch.setattr("context_svc.claims.database_now", now)


async def page(here: Room, session: str, after: int) -> chat_pb2.ListEventsResponse:
    request = chat_pb2.ListEventsRequest(session_id=session, after_sequence=after, page_size=1000)
    return await here.stub.ListEvents(request)


async def passes(here: Room, clock: FakeClock, span: timedelta) -> None:
    """Let time pass, an hour at once, and let upkeep look each time."""
    for _ in range(max(1, int(span / timedelta(hours=1)))):
        begun = await looks(here)  # before the jump, which may begin the next look at once
        clock.jump(timedelta(hours=1))
        async with asyncio.timeout(20):
            for seconds in itertools.chain(itertools.repeat(1, 60), itertools.repeat(0)):
                await clock.advance(timedelta(seconds=seconds))
                await clock.asleep(3)
                job = await here.database.read(_job)
                # A process that jumped may take itself for dead and its look for lost: that one is begun again.
                if job["attempts"] > begun and job["state"] == JobState.SCHEDULED and not job["failures"]:
                    break


async def looks(here: Room) -> int:
    return int((await here.database.read(_job))["attempts"])


def _job() -> Unit[Row]:
    return (yield Statement("SELECT attempts, state, failures FROM job WHERE kind = 'upkeep'"))[0]


@pytest.mark.requirement("CHAT-3")
async def test_the_pieces_of_an_answer_go_a_day_after_its_end_and_readers_inside_get_one_snapshot(
    database: Database,
) -> None:
    clock = FakeClock()
    async with room(database, clock=clock) as here:
        session, compaction = await here.session(), Compaction(database)
        await here.say(session, "old")
        old = (await page(here, session, 0)).next.sequence
        clock.jump(DAY - timedelta(seconds=1))
        assert not await compaction.run(clock.now_us())
        await here.say(session, "young")
        clock.jump(timedelta(seconds=1))
        assert await compaction.run(clock.now_us())
        assert not await compaction.run(clock.now_us())
        inside = await page(here, session, 2)
        assert [message.parts[0].text for message in inside.snapshot.messages] == [
            "old",
            "you said: old",
            "young",
            "you said: young",
        ]
        assert inside.at_end
        behind = await page(here, session, old)
        assert not behind.HasField("snapshot")
        assert [event.sequence for event in behind.events] == list(range(old + 1, behind.next.sequence + 1))
        assert PIECES & set(kinds(list(behind.events)))
        request = chat_pb2.SubscribeEventsRequest(
            cursors=[session_pb2.SessionCursor(session_id=session, sequence=1)]
        )
        call: Any = here.stub.SubscribeEvents(request, timeout=30)
        async with streaming(call):
            frames = [await call.read() for _ in range(2)]
            assert frames[1].snapshot.through.sequence == behind.next.sequence
            await here.say(session, "now")
            assert (await call.read()).event.sequence == behind.next.sequence + 1
        again = chat_pb2.GetTurnReceiptRequest(session_id=session, turn_id=behind.events[0].turn_id)
        assert (await here.stub.GetTurnReceipt(again)).receipt.model.model == "played"


async def test_a_message_that_is_sent_again_after_compaction_still_joins_its_turn(database: Database) -> None:
    clock = FakeClock()
    async with room(database, clock=clock) as here:
        session = await here.session()
        message = here.message(session, "once")
        send = chat_pb2.SendMessageRequest(message=message, follow=True)
        first = [frame.event async for frame in here.stub.SendMessage(send, timeout=30)]
        clock.jump(DAY)
        assert await Compaction(database).run(clock.now_us())
        again = [frame async for frame in here.stub.SendMessage(send, timeout=30)]
    assert again[0].event == first[0]
    assert again[-1].HasField("snapshot")


@asynccontextmanager
async def private_session(database: Database, clock: FakeClock) -> AsyncIterator[tuple[Room, str]]:
    async with room(database, clock=clock, background=True, ledger=Ledger(day_limit=10_000)) as here:
        settings = session_pb2.SessionSettings(private=True).SerializeToString()
        new = NewSession(id="private-1", title="", settings=settings, sealed=False, private=True)
        await here.sessions.create(caller(), new)
        await passes(here, clock, timedelta(minutes=30))
        yield here, "private-1"


@pytest.mark.requirement("CHAT-14")
async def test_a_private_session_ends_by_itself_and_leaves_nothing_but_its_cost(
    database: Database, database_place: Place
) -> None:
    clock, canary = FakeClock(), "bassooncanary"
    async with private_session(database, clock) as (here, session):
        other = await here.session()
        await here.say(other, "stays")
        await here.say(session, canary)
        await passes(here, clock, timedelta(hours=23))
        await here.say(session, "still here")
        await passes(here, clock, timedelta(hours=23))
        assert await _left(here, session)
        assert [job for job in await _titles(here) if job == session] == []
        await passes(here, clock, timedelta(hours=2))
        assert await _left(here, session) == {}
        assert (await _left(here, other))["message"] == 2
        cost = await here.database.read(_ledger)
        assert cost["turns"] >= 3  # the jobs of the other session are counted too
        assert 9 <= cost["input_tokens"] <= 3 * cost["turns"]  # a job that made way for a person used nothing
        if database.engine == "sqlite":
            assert canary.encode() not in _files(database_place.url.removeprefix("sqlite://"))


@pytest.mark.requirement("CHAT-14")
async def test_a_private_session_that_the_person_ended_goes_within_hours(database: Database) -> None:
    clock = FakeClock()
    async with private_session(database, clock) as (here, session):
        await here.say(session, "hi")
        await here.sessions.end(caller(), session)
        await passes(here, clock, timedelta(hours=2))
        assert await _left(here, session) == {}


def _files(path: str) -> bytes:
    return b"".join(Path(path + end).read_bytes() for end in ("", "-wal"))


def _ledger() -> Unit[Row]:
    return (
        yield Statement(
            "SELECT sum(turns) AS turns, sum(input_tokens) AS input_tokens FROM ledger"
            " WHERE account_id = :account",
            {"account": ACCOUNT},
        )
    )[0]


async def _titles(here: Room) -> list[str]:
    def unit() -> Unit[list[str]]:
        rows = yield Statement("SELECT session_id FROM job WHERE kind IN ('title', 'summary')")
        return [row["session_id"] for row in rows]

    return await here.database.read(unit)


async def _left(here: Room, session: str) -> dict[str, int]:
    """How many rows of each table still name the session."""
    tables = (
        "event",
        "message",
        "turn",
        "idempotency",
        "acknowledgement",
        "job",
        "message_search",
        "job_receipt",
    )

    def unit() -> Unit[dict[str, int]]:
        found = {}
        for table in tables:
            rows = yield Statement(
                f"SELECT count(*) AS count FROM {table} WHERE session_id = :session",
                {"session": session},
            )
            found[table] = rows[0]["count"]
        rows = yield Statement("SELECT count(*) AS count FROM session WHERE id = :id", {"id": session})
        held = yield Statement("SELECT count(*) AS count FROM reservation")
        return {**found, "session": rows[0]["count"], "reservation": held[0]["count"]}

    return {table: count for table, count in (await here.database.read(unit)).items() if count}
