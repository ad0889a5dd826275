"""A deleted session: its readers are told, its turns stop, and no row of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis import engines, ids
from chassis.call import User
from chassis.database import Database, Statement, Unit
from chassis.dial import streaming
from chassis.testing import eventually
from context_svc import job_rows
from context_svc.errors import SessionNotFound
from context_svc.job_rows import NewJob
from tests import holding
from tests.interaction.context_svc.conversation_room import Room, Stage, caller, room

TABLES = ("session", "message", "event", "turn", "idempotency", "acknowledgement", "job")


def rows_with(session_id: str) -> Unit[dict[str, int]]:
    found = {}
    for table in TABLES:
        column = "id" if table == "session" else "session_id"
        sql = f"SELECT count(*) AS n FROM {table} WHERE {column} = :session"
        found[table] = (yield Statement(sql, {"session": session_id}))[0]["n"]
    return found


async def fill(here: Room, session: str) -> None:
    await here.say(session, "hello")
    job = NewJob(id=ids.uuid(), kind="k", subject=session, session_id=session, run_us=2**60)
    await here.database.write(session, lambda: job_rows.add(job, 0))
    await here.database.write(session, lambda: _acknowledged(session))


def _acknowledged(session_id: str) -> Unit[None]:
    yield Statement("INSERT INTO acknowledgement VALUES (:session, 'device-1', 1)", {"session": session_id})


@pytest.mark.requirement("SES-1")
async def test_everything_in_a_deleted_session_goes_and_nothing_of_another(database: Database) -> None:
    async with room(database) as here:
        gone, kept = await here.session(), await here.session()
        for session in (gone, kept):
            await fill(here, session)
        full = await database.read(lambda: rows_with(kept))
        assert all(full.values())
        await here.sessions.delete(caller(), gone, allow_missing=False)
        assert not any((await database.read(lambda: rows_with(gone))).values())
        assert await database.read(lambda: rows_with(kept)) == full


@pytest.mark.requirement("SES-1")
async def test_readers_of_a_deleted_session_are_told_and_can_resume_the_others(database: Database) -> None:
    async with room(database) as here:
        gone, kept = await here.session(), await here.session()
        for session in (gone, kept):
            await here.say(session, "hello")
        cursors = [session_pb2.SessionCursor(session_id=each) for each in (gone, kept)]
        request = chat_pb2.SubscribeEventsRequest(cursors=cursors)
        async with streaming(here.stub.SubscribeEvents(request, timeout=30)) as call:
            frames = aiter(call)
            ends: set[str] = set()
            while ends != {gone, kept}:
                frame = await anext(frames)
                if frame.event.HasField("turn_finished"):
                    ends.add(frame.event.session_id)
            await here.sessions.delete(caller(), gone, allow_missing=False)
            closed = (await anext(frames)).closed
        assert closed.reason == chat_pb2.CLOSE_REASON_DELETED
        assert [position.session_id for position in closed.positions] == [kept]


@pytest.mark.requirement("SES-1")
async def test_a_running_turn_of_a_deleted_session_stops_and_writes_nothing(database: Database) -> None:
    stopped = asyncio.Event()

    async def hangs(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        await stage.cancelled.wait()
        stopped.set()
        yield stage.stopped("late")

    async with room(database) as here:
        here.orchestrator.play = hangs
        session = await here.session()
        send = chat_pb2.SendMessageRequest(message=here.message(session, "hello"))
        [frame async for frame in here.stub.SendMessage(send, timeout=30)]
        await here.until(session, lambda events: events[-1].HasField("turn_started"))
        await here.sessions.delete(caller(), session, allow_missing=False)
        await asyncio.wait_for(stopped.wait(), 30)
        await eventually(lambda: not here.runs)
        assert not any((await database.read(lambda: rows_with(session))).values())
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await here.say(session, "again")
    assert late.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.requirement("SES-1")
async def test_nobody_deletes_a_session_of_somebody_else(database: Database) -> None:
    stranger = User(account="account-2", sign_in="x", scopes=frozenset(), expires_at_us=2**60)
    async with room(database) as here:
        session = await here.session()
        with pytest.raises(SessionNotFound):
            await here.sessions.delete(stranger, session, allow_missing=False)
        await here.sessions.delete(stranger, session, allow_missing=True)
        assert (await database.read(lambda: rows_with(session)))["session"] == 1


@pytest.mark.requirement("SES-1")
async def test_words_of_a_deleted_session_are_in_no_file_of_the_store(tmp_path: Path) -> None:
    canary = "canary-5e1f"
    async with engines.connect(f"sqlite://{tmp_path}/t.db", schema="") as database, room(database) as here:
        session = await here.session()
        await here.say(session, f"remember {canary} " * 400)
        assert holding.files(tmp_path, canary)
        await here.sessions.delete(caller(), session, allow_missing=False)
        assert holding.files(tmp_path, canary) == []
