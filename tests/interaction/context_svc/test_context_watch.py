"""Watching a scope: every change once and in order, tombstones, the whole state without them, an end with a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from assistant.context.v1 import context_pb2 as pb
from assistant.context.v1.context_pb2_grpc import ContextServiceStub
from assistant.identity.v1 import identity_pb2
from assistant.session.v1 import session_pb2
from chassis.call import User
from chassis.database import Database
from chassis.dial import streaming
from chassis.testing import FakeClock, eventually
from context_svc import context_feed, dossier
from context_svc.context_feed import Beat, Closed, ContextFeed, Whole
from context_svc.context_watch import Watchers
from context_svc.items import Scope
from context_svc.readers import CloseReason
from context_svc.schema import MIGRATIONS
from tests.interaction.context_svc.conftest import Person, Room, Start
from tests.interaction.context_svc.refusal import refused
from tests.interaction.context_svc.test_context_items import delete, get, plain, put, session, write

T = TypeVar("T")


class Watch:
    """One open watch, frame by frame; every wait is bounded."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def next(self) -> pb.WatchContextResponse:
        async with asyncio.timeout(20):
            frame = await self._call.read()
        assert isinstance(frame, pb.WatchContextResponse), "the watch ended"
        return frame

    async def change(self) -> tuple[int, dict[str, object], dict[str, bool]]:
        """The next frame, a change: its version, what was written, and which keys went (True: expired)."""
        frame = await self.next()
        assert frame.WhichOneof("frame") == "change"
        gone = {each.key: each.expired for each in frame.change.tombstones}
        return frame.cursor.version, plain(frame.change.items), gone

    async def snapshot(self) -> tuple[int, dict[str, object]]:
        frame = await self.next()
        assert frame.WhichOneof("frame") == "snapshot"
        return frame.cursor.version, plain(frame.snapshot.items)

    async def closed(self) -> pb.ContextWatchClosedReason.ValueType:
        frame = await self.next()
        assert frame.WhichOneof("frame") == "closed"
        assert await self._call.read() is grpc.aio.EOF
        return frame.closed.reason


@asynccontextmanager
async def watch(room: Room, person: Person, **fields: object) -> AsyncIterator[Watch]:
    request = pb.WatchContextRequest(**fields)  # type: ignore[arg-type]
    call = ContextServiceStub(room.channel).WatchContext(request, metadata=person.metadata)
    async with streaming(call):
        yield Watch(call)


async def swept(room: Room, work: Coroutine[Any, Any, T]) -> T:
    """Let seconds pass until the work is done: what sweeps wakes every few of them."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await room.clock.advance(timedelta(seconds=5))
        await asyncio.wait({task}, timeout=0.02)
    return task.result()


async def forgotten(room: Room, person: Person, cursor: pb.ContextCursor) -> None:
    """Return once a watch from this cursor begins with everything."""
    async with asyncio.timeout(20):
        while True:
            async with watch(room, person, after=cursor) as open_watch:
                if (await open_watch.next()).WhichOneof("frame") == "snapshot":
                    return


@pytest.mark.requirement("CTX-3")
async def test_a_watch_begins_with_everything_and_goes_on_with_each_commit(room: Room) -> None:
    person = await room.register()
    await put(room, person, write("a", 1))
    async with watch(room, person) as open_watch:
        assert await open_watch.snapshot() == (1, {"a": 1})
        await put(room, person, write("a", 2), write("b", 3))
        assert await open_watch.change() == (2, {"a": 2, "b": 3}, {})
        await delete(room, person, keys=["a", "never"])
        assert await open_watch.change() == (3, {}, {"a": False})


@pytest.mark.requirement("CTX-3")
async def test_a_read_and_a_watch_from_its_cursor_miss_nothing_and_repeat_nothing(room: Room) -> None:
    person = await room.register()
    here = await session(room, person)
    await put(room, person, write("a", 1), write("b", 1), session_id=here)
    cursor = (await get(room, person, session_id=here)).session_cursor
    await put(room, person, write("a", 2), session_id=here)
    await delete(room, person, keys=["b"], session_id=here)
    await put(room, person, write("c", 1), session_id=here)
    async with watch(room, person, session_id=here, after=cursor) as open_watch:
        assert await open_watch.change() == (2, {"a": 2}, {})
        assert await open_watch.change() == (3, {}, {"b": False})
        assert await open_watch.change() == (4, {"c": 1}, {})
        await put(room, person, write("user", 1))  # another scope
        await put(room, person, write("d", 1), session_id=here)
        assert await open_watch.change() == (5, {"d": 1}, {})


@pytest.mark.requirement("CTX-2", "CTX-3")
async def test_64_writers_reach_a_watch_whole_and_in_order(room: Room) -> None:
    person = await room.register()
    async with watch(room, person) as open_watch:
        await open_watch.snapshot()
        writers = [put(room, person, write(f"key-{n}", n)) for n in range(64)]
        await asyncio.gather(*writers)
        seen: dict[str, object] = {}
        versions: list[int] = []
        while len(seen) < 64:
            version, items, _ = await open_watch.change()
            versions.append(version)
            seen |= items
        assert versions == list(range(1, 65))
        assert seen == {f"key-{n}": n for n in range(64)}


@pytest.mark.requirement("CTX-3")
async def test_what_expires_is_a_tombstone_that_says_so(room: Room) -> None:
    person = await room.register()
    await put(room, person, write("short", 1, ttl=Duration(seconds=60)), write("long", 2))
    async with watch(room, person) as open_watch:
        assert await open_watch.snapshot() == (1, {"short": 1, "long": 2})
        room.clock.jump(timedelta(seconds=61))
        assert await swept(room, open_watch.change()) == (2, {}, {"short": True})


@pytest.mark.requirement("CTX-3")
async def test_a_reader_who_was_away_longer_than_tombstones_are_kept_gets_the_whole_state(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await room.register()
    await put(room, person, write("kept", 1), write("gone", 1))
    before = (await get(room, person)).user_cursor
    await delete(room, person, keys=["gone"])
    after = (await get(room, person)).user_cursor
    room.clock.jump(timedelta(days=29))
    person = await room.log_in(person)
    async with watch(room, person, after=before) as open_watch:
        assert await open_watch.change() == (2, {}, {"gone": False})
    room.clock.jump(timedelta(days=2))
    person = await room.log_in(person)
    monkeypatch.setattr(dossier, "FORGET_ROUNDS", 1)
    await swept(room, forgotten(room, person, before))
    async with watch(room, person, after=after) as open_watch:  # knows of the deletion already
        await put(room, person, write("new", 1))
        assert await open_watch.change() == (3, {"new": 1}, {})


@pytest.mark.requirement("CTX-3")
async def test_a_cursor_of_another_epoch_gets_the_whole_state_and_one_ahead_is_refused(room: Room) -> None:
    person = await room.register()
    await put(room, person, write("a", 1))
    cursor = (await get(room, person)).user_cursor
    restored = pb.ContextCursor(log_epoch="before the restore", version=7)
    async with watch(room, person, after=restored) as open_watch:
        assert await open_watch.snapshot() == (1, {"a": 1})
    cursor.version = 2
    async with watch(room, person, after=cursor) as open_watch:
        assert await refused(open_watch.next()) == "CURSOR_AHEAD"


@pytest.mark.requirement("CTX-3", "ID-9")
async def test_the_scope_of_others_cannot_be_watched(start: Start) -> None:
    async with start(open_registration=True, streams_per_account=2) as room:
        anna, bob = await room.register(), await room.register("bob@example.org")
        here = await session(room, anna)
        async with watch(room, bob, session_id=here) as open_watch:
            assert await refused(open_watch.next()) == "SESSION_NOT_FOUND"
        async with watch(room, anna) as first, watch(room, anna) as second, watch(room, anna) as third:
            await first.snapshot()
            await second.snapshot()
            assert await refused(third.next()) == "TOO_MANY_STREAMS"


@pytest.mark.requirement("CTX-3")
async def test_a_watch_ends_with_the_reason(room: Room) -> None:
    phone = await room.register()
    laptop = await room.log_in(phone)
    here = await session(room, phone)
    async with watch(room, phone, session_id=here) as of_session, watch(room, phone) as of_person:
        await of_session.snapshot()
        await of_person.snapshot()
        gone = session_pb2.DeleteSessionRequest(session_id=here)
        await room.sessions.DeleteSession(gone, metadata=laptop.metadata)
        assert await of_session.closed() == pb.CONTEXT_WATCH_CLOSED_REASON_DELETED
        out = identity_pb2.RevokeDeviceRequest(device_id=phone.device_id)
        await room.identity.RevokeDevice(out, metadata=laptop.metadata)
        assert await of_person.closed() == pb.CONTEXT_WATCH_CLOSED_REASON_REVOKED


USER = User(account="anna", sign_in="phone", scopes=frozenset(), expires_at_us=2**60)
MINE = Scope(account_id="anna")


@pytest.mark.requirement("CTX-3")
async def test_a_quiet_watch_beats_and_a_slow_one_is_ended(database: Database) -> None:
    await database.migrate(MIGRATIONS)
    clock, watchers = FakeClock(), Watchers()
    feed = ContextFeed(database, clock, watchers, "epoch-1", heartbeat=0.01)
    async with aclosing(feed.frames(USER, MINE, None)) as frames:  # type: ignore[type-var]
        assert await anext(frames) == Whole(version=0, items=())
        assert await anext(frames) == Beat(version=0)
        watchers.close_all(CloseReason.DRAINING)
        assert await anext(frames) == Closed(version=0, reason=CloseReason.DRAINING)
    async with aclosing(feed.frames(USER, MINE, None)) as frames:  # type: ignore[type-var]
        await anext(frames)
        await clock.advance(timedelta(seconds=context_feed.PATIENCE + 1))
        assert await anext(frames) == Closed(version=0, reason=CloseReason.SLOW)
        assert await anext(frames, None) is None
    await eventually(lambda: len(watchers) == 0)


@pytest.mark.requirement("CTX-3")
async def test_a_long_absence_is_read_page_by_page(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await room.register()
    cursor = (await get(room, person)).user_cursor
    for start in range(0, 30, 3):
        await put(room, person, *(write(f"k{n:02}", n) for n in range(start, start + 3)))
    monkeypatch.setattr(context_feed, "PAGE", 8)
    async with watch(room, person, after=cursor) as open_watch:
        for version in range(1, 11):
            found, items, _ = await open_watch.change()
            assert (found, len(items)) == (version, 3)
