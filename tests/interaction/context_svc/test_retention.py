"""Retention: what is too old goes, readers inside get one Snapshot, no jump of the clock removes a thing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2 as pb
from assistant.session.v1 import session_pb2
from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.dial import streaming
from chassis.testing import FakeClock
from context_svc.job_rows import JobState
from context_svc.wire.preferences import change
from tests.interaction.context_svc.conversation_room import (
    ACCOUNT,
    PlayedOrchestrator,
    Room,
    caller,
    kinds,
    room,
)

DAY = timedelta(days=1)


class World:
    """A conversation whose clock the test moves."""

    def __init__(self, here: Room, clock: FakeClock) -> None:
        self.here = here
        self.clock = clock

    async def session(self, days: int) -> str:
        """A session with the person's title that keeps its messages for so many days; 0: until deleted."""
        session = await self.here.session()
        kept = session_pb2.SessionSettings(retention=Duration(seconds=days * 86_400))
        await self.here.database.write(session, lambda: _set_up(session, kept.SerializeToString()))
        return session

    async def prefer(self, retention: pb.Retention) -> None:
        """Let the person prefer it for every session that says nothing itself."""
        request = pb.UpdatePreferencesRequest(
            request_id=ids.uuid(), preferences=pb.Preferences(retention=retention)
        )
        await self.here.preferences.update(caller(), change(request, ACCOUNT))

    async def live(self, days: int) -> None:
        """Let a little more than so many days pass; half a day without a look is no surprise."""
        for _ in range(days * 2):
            self.clock.jump(timedelta(hours=12))
            await self.look()

    async def look(self) -> None:
        """Let the timer look around, and the job that it began end."""
        begun = await self.attempts()
        for _ in range(5):
            await self.clock.advance(timedelta(seconds=1))
            await self.clock.asleep(3)
            if await self.attempts() > begun and await self.rests():
                return

    async def attempts(self) -> int:
        return int((await self.here.database.read(_retention))["attempts"])

    async def rests(self) -> bool:
        return bool((await self.here.database.read(_retention))["state"] == JobState.SCHEDULED)

    async def texts(self, session: str) -> list[str]:
        request = chat_pb2.ListMessagesRequest(session_id=session, order=chat_pb2.LIST_ORDER_OLDEST_FIRST)
        page = await self.here.stub.ListMessages(request)
        return [part.text for message in page.messages for part in message.parts]

    async def events(self, session: str, after: int = 0, epoch: str = "") -> chat_pb2.ListEventsResponse:
        request = chat_pb2.ListEventsRequest(
            session_id=session, after_sequence=after, log_epoch=epoch, page_size=1000
        )
        return await self.here.stub.ListEvents(request)


def _retention() -> Unit[dict[str, int]]:
    rows = yield Statement("SELECT attempts, state FROM job WHERE kind = 'retention'")
    return {"attempts": rows[0]["attempts"], "state": rows[0]["state"]}


def _set_up(session: str, settings: bytes) -> Unit[None]:
    yield Statement(
        "UPDATE session SET settings = :settings, title = 'Mine', title_source = 1 WHERE id = :id",
        {"id": session, "settings": settings},
    )


@asynccontextmanager
async def world(database: Database) -> AsyncIterator[World]:
    clock = FakeClock()
    async with room(database, PlayedOrchestrator(), background=True, clock=clock) as here:
        there = World(here, clock)
        await there.look()
        yield there


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PostgreSQL go by the test's clock too, where jobs are claimed."""

    def now(engine: object, now_us: int) -> Unit[int]:
        yield Statement("SELECT 1 AS one")
        return now_us

    monkeypatch.setattr("context_svc.job_rows.database_now", now)
    monkeypatch.setattr("context_svc.claims.database_now", now)


@pytest.mark.requirement("CTX-7")
async def test_messages_older_than_the_session_keeps_go_and_sequences_are_not_reused(
    database: Database,
) -> None:
    async with world(database) as here:
        session, kept = await here.session(2), await here.session(0)
        for each in (session, kept):
            await here.here.say(each, "old")
        before = (await here.events(session)).next.sequence
        await here.live(1)
        await here.here.say(session, "young")
        await here.live(1)
        assert await here.texts(session) == ["young", "you said: young"]
        assert await here.texts(kept) == ["old", "you said: old"]
        log = await here.events(session, after=before)
        assert not log.HasField("snapshot")
        assert kinds(list(log.events))[0] == "turn_accepted"
        assert log.events[0].sequence == before + 1
        assert log.events[-1].messages_cleared.through_sequence == before


@pytest.mark.requirement("CTX-7")
async def test_a_reader_inside_the_removed_range_gets_one_snapshot_and_goes_on(database: Database) -> None:
    async with world(database) as here:
        session = await here.session(1)
        await here.here.say(session, "old")
        await here.live(2)
        await here.here.say(session, "new")
        cursor = session_pb2.SessionCursor(session_id=session, sequence=1)
        request = chat_pb2.SubscribeEventsRequest(cursors=[cursor])
        async with streaming(here.here.stub.SubscribeEvents(request, timeout=30)) as call:
            frames = aiter(call)
            assert (await anext(frames)).WhichOneof("frame") == "heartbeat"
            snapshot = (await anext(frames)).snapshot
            assert getattr(snapshot, "from").sequence == 1
            assert [m.parts[0].text for m in snapshot.messages] == ["new", "you said: new"]
            assert (snapshot.has_older, snapshot.session.id) == (False, session)
            assert snapshot.through.sequence == snapshot.session.last_sequence
            await here.here.say(session, "next")
            following = (await anext(frames)).event
        assert following.sequence == snapshot.through.sequence + 1
        page = await here.events(session, after=1)
        assert (page.snapshot.through, list(page.events)) == (page.next, [])


@pytest.mark.requirement("CHAT-3")
async def test_a_cursor_of_another_epoch_gets_one_snapshot(database: Database) -> None:
    async with world(database) as here:
        session = await here.session(0)
        await here.here.say(session, "hello")
        page = await here.events(session, after=3, epoch="before the restore")
        assert getattr(page.snapshot, "from").log_epoch == "before the restore"
        assert page.snapshot.through.log_epoch == "epoch-1"
        assert [m.parts[0].text for m in page.snapshot.messages] == ["hello", "you said: hello"]
        same = await here.events(session, after=page.next.sequence, epoch=page.next.log_epoch)
        assert (same.HasField("snapshot"), list(same.events)) == (False, [])


@pytest.mark.requirement("CTX-7")
async def test_an_emptied_session_goes_on_and_its_tombstone_stands_once(database: Database) -> None:
    async with world(database) as here:
        session = await here.session(1)
        await here.here.say(session, "old")
        await here.live(5)
        assert await here.texts(session) == []
        listed = (await here.here.sessions.get(caller(), session)).session
        assert (listed.preview, listed.title) == ("", "Mine")
        page = await here.events(session)
        assert kinds(list((await here.events(session, after=page.next.sequence - 1)).events)) == [
            "messages_cleared"
        ]
        events = await here.here.say(session, "again")
        assert kinds(events)[-1] == "turn_finished"


@pytest.mark.requirement("CTX-7")
async def test_a_clock_that_jumps_forward_and_back_removes_nothing(database: Database) -> None:
    async with world(database) as here:
        session = await here.session(7)
        await here.here.say(session, "precious")
        here.clock.jump(365 * DAY)
        await here.look()
        here.clock.jump(-365 * DAY)
        await here.look()
        await here.live(2)
        assert await here.texts(session) == ["precious", "you said: precious"]


@pytest.mark.requirement("CTX-7")
async def test_a_clock_that_stays_ahead_is_believed_after_a_day(database: Database) -> None:
    async with world(database) as here:
        session = await here.session(7)
        await here.here.say(session, "old")
        here.clock.jump(365 * DAY)
        await here.look()
        here.clock.jump(DAY - timedelta(minutes=1))
        await here.look()
        assert await here.texts(session) == ["old", "you said: old"]
        here.clock.jump(timedelta(minutes=1))
        await here.look()
        assert await here.texts(session) == []


@pytest.mark.requirement("CTX-7")
async def test_what_the_person_prefers_holds_for_sessions_that_say_nothing_themselves(
    database: Database,
) -> None:
    async with world(database) as here:
        silent, longer, forever = await here.here.session(), await here.session(5), await here.session(0)
        for session in (silent, longer, forever):
            await here.here.say(session, "hello")
        await here.live(2)
        assert all([await here.texts(session) for session in (silent, longer, forever)])
        await here.prefer(pb.Retention(keep=Duration(seconds=86_400)))
        await here.live(1)
        assert [await here.texts(silent), len(await here.texts(longer))] == [[], 2]
        await here.live(4)
        assert [await here.texts(longer), len(await here.texts(forever))] == [[], 2]
        await here.prefer(pb.Retention(until_deleted=True))
        await here.here.say(silent, "again")
        await here.live(3)
        assert len(await here.texts(silent)) == 2
