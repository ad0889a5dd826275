"""Streams stay alive when nothing happens, and one that nobody reads costs no one anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database
from chassis.dial import streaming
from chassis.testing import FakeClock, eventually
from context_svc import readers
from context_svc.messages import require_session
from context_svc.readers import Readers
from tests.interaction.context_svc.conversation_room import PlayedOrchestrator, Room, Stage, caller, room
from tests.interaction.context_svc.refusal import refused

pytestmark = pytest.mark.requirement("CHAT-12")
LONG = "x" * 100_000


async def says_much(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    yield stage.started()
    for _ in range(80):
        yield stage.event(tool_progress=chat_pb2.ToolProgress(call_id="c", message=LONG))
    yield stage.finished("so")


def subscribe(here: Room, session: str, after: int = 0) -> Any:
    cursor = session_pb2.SessionCursor(session_id=session, sequence=after)
    return here.stub.SubscribeEvents(chat_pb2.SubscribeEventsRequest(cursors=[cursor]), timeout=20)


async def test_a_silent_stream_is_told_every_15_seconds_that_it_lives(database: Database) -> None:
    clock = FakeClock()
    async with room(database, clock=clock, watched=True) as here:
        session = await here.session()
        async with streaming(subscribe(here, session)) as call:
            assert (await call.read()).HasField("heartbeat")
            for _ in range(3):
                await clock.advance(timedelta(seconds=14))
                pending = call.read()
                await clock.advance(timedelta(seconds=2))
                assert (await pending).HasField("heartbeat")


async def test_what_is_said_puts_the_next_sign_of_life_off(database: Database) -> None:
    clock = FakeClock()
    async with room(database, clock=clock, watched=True) as here:
        session = await here.session()
        async with streaming(subscribe(here, session)) as call:
            await call.read()
            await clock.advance(timedelta(seconds=10))
            await here.say(session, "hi")
            while not (frame := await call.read()).event.HasField("turn_finished"):
                assert frame.HasField("event")
            await clock.advance(timedelta(seconds=10))
            await here.say(session, "again")
            assert (await call.read()).event.HasField("turn_accepted")


async def test_a_reader_that_takes_nothing_for_30_seconds_is_detached_and_resumes(database: Database) -> None:
    clock, orchestrator = FakeClock(), PlayedOrchestrator()
    orchestrator.play = says_much
    async with room(database, orchestrator, clock=clock, watched=True) as here:
        session = await here.session()
        async with streaming(subscribe(here, session)) as call:
            await call.read()
            assert (await here.say(session, "hi"))[-1].HasField("turn_finished")
            await eventually(lambda: _handing(here.readers))
            await clock.advance(timedelta(seconds=29))
            assert session in here.readers._of_session
            await _passes_until(clock, lambda: session not in here.readers._of_session)
            frames = await _heard(call)
        assert frames[-1].closed.reason == chat_pb2.CLOSE_REASON_SLOW
        (position,) = frames[-1].closed.positions
        got = [frame.event.sequence for frame in frames if frame.HasField("event")]
        assert got == list(range(1, position.sequence + 1))
        last = await here.database.read(lambda: require_session(caller().account, session))
        rest = list(range(position.sequence + 1, last + 1))
        assert rest
        async with streaming(subscribe(here, session, after=position.sequence)) as call:
            again = [await call.read() for _ in range(len(rest) + 1)]
        assert [frame.event.sequence for frame in again if frame.HasField("event")] == rest


async def test_a_reader_that_never_reads_again_is_cut_off(database: Database) -> None:
    clock, orchestrator = FakeClock(), PlayedOrchestrator()
    orchestrator.play = says_much
    async with room(database, orchestrator, clock=clock, watched=True) as here:
        session = await here.session()
        async with streaming(subscribe(here, session)) as call:
            await call.read()
            await here.say(session, "hi")
            await eventually(lambda: _handing(here.readers))
            await _passes_until(clock, lambda: len(here.readers) == 0)


async def test_a_stream_ends_after_its_time_and_says_where_to_resume(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(readers, "LIFETIME", 60.0)
    monkeypatch.setattr(readers, "STALLED", 600.0)  # the test's clock runs ahead of the client
    async with room(database, clock=clock, watched=True) as here:
        session = await here.session()
        async with streaming(subscribe(here, session)) as call:
            await call.read()
            heard = asyncio.ensure_future(_heard(call))
            await clock.advance(timedelta(seconds=53))
            assert not heard.done()
            await clock.advance(timedelta(seconds=14))
            last = (await heard)[-1]
    assert last.closed.reason == chat_pb2.CLOSE_REASON_EXPIRED
    assert [position.session_id for position in last.closed.positions] == [session]


async def test_an_account_opens_no_more_streams_than_it_may(database: Database) -> None:
    async with room(database) as here:
        session = await here.session()
        here.readers._per_account = 2
        async with streaming(subscribe(here, session)) as one, streaming(subscribe(here, session)) as two:
            await one.read()
            await two.read()
            assert await refused(_first(subscribe(here, session))) == "TOO_MANY_STREAMS"


async def _heard(call: Any) -> list[Any]:
    frames = []
    while (frame := await call.read()) is not grpc.aio.EOF:
        frames.append(frame)
    return frames


async def _first(call: Any) -> object:
    return await anext(aiter(call))


def _handing(open_streams: Readers) -> bool:
    """Whether the one reader there is has a frame on its way."""
    mine = open_streams._of_account.get(caller().account, set())
    return any(each._handing_since is not None for each in mine)


async def _passes_until(clock: FakeClock, done: Callable[[], bool]) -> None:
    """Let time pass, three seconds at once; on a busy machine the stream may fill up only meanwhile."""
    for _ in range(200):
        if done():
            return
        await clock.advance(timedelta(seconds=3))
        await asyncio.sleep(0)
    raise AssertionError("it does not come about")
