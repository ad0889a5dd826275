"""Rooms are told to stop: they leave in time, and while one of two replicas is away nobody notices."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid

import grpc
import pytest

from assistant.session.v1 import session_pb2
from chassis.tasks import Tasks
from tests.robustness.checker import faults
from tests.robustness.client import Device, Reader, Told, device
from tests.robustness.mesh import front, machine
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RESTARTS = {False: 1, True: 10}
LONG = "stream 3000 tokens 20 ms apart"


@pytest.mark.requirement("OPS-1")
async def test_a_rolling_restart_fails_no_call_and_loses_no_event(
    postgres_url: str, long_loops: bool
) -> None:
    extra = {"CONTEXT_DATABASE_SCHEMA": f"roll{uuid.uuid4().hex[:8]}", "CONTEXT_LINGER_SECONDS": "5"}
    async with machine("context", "orchestrator", "llm", database=postgres_url, **extra) as here:
        await here.start("context", "second")
        with front(here, "context", "second") as edge:
            async with device(f"127.0.0.1:{edge.port}", here.operator()) as phone, Tasks() as tasks:
                session, told, stop, calls = await phone.new_session(), Told(), asyncio.Event(), list[str]()
                reader = Reader(phone, session)
                tasks.spawn("read", reader.run())
                work = [tasks.spawn("call", keep_calling(phone, session, stop, calls)) for _ in range(3)]
                work.append(tasks.spawn("talk", keep_talking(phone, session, told, stop)))
                leaving = []
                for number in range(RESTARTS[long_loops]):
                    victim = ("second", "context")[number % 2]
                    began = time.monotonic()
                    here.running[victim].process.send_signal(signal.SIGTERM)
                    assert await here.running[victim].ended(30) == 0
                    leaving.append(time.monotonic() - began)
                    await here.start("context", victim)
                    await asyncio.sleep(3)  # until Envoy has asked for its health again
                stop.set()
                await asyncio.gather(*work)
                await reader.reach(int((await phone.settled(session))[-1]["sequence"]))
                told.readings.append(reader.reading())
                found = faults(await phone.history(session, told))
    failed = [each for each in calls if each != "OK"]
    counted = f"{len(leaving)} restarts, {len(calls)} unary calls, {len(failed)} failed, {max(leaving):.0f} s to leave"
    tell("rolling restarts", counted, len(found) + len(failed))
    assert not found
    assert not failed, set(failed)
    assert max(leaving) <= 25


async def keep_calling(phone: Device, session: str, stop: asyncio.Event, calls: list[str]) -> None:
    """Read and write by unary calls, none of which is tried again."""
    while not stop.is_set():
        read = session_pb2.GetSessionRequest(session_id=session)
        write = session_pb2.CreateSessionRequest(session_id=str(uuid.uuid4()))
        try:
            await phone.sessions.GetSession(read, metadata=phone.metadata, timeout=10)
            calls.append("OK")
            await phone.sessions.CreateSession(write, metadata=phone.metadata, timeout=10)
            calls.append("OK")
        except grpc.aio.AioRpcError as error:
            calls.append(f"{error.code().name}: {error.details()}")
        await asyncio.sleep(0.05)


async def keep_talking(phone: Device, session: str, told: Told, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await phone.say(session, "stream 10 tokens 5 ms apart", told)
        await asyncio.sleep(0.2)


@pytest.mark.requirement("OPS-1")
async def test_a_turn_that_outlasts_the_drain_ends_with_what_it_said(long_loops: bool) -> None:
    patience = {} if long_loops else {"CONTEXT_DRAIN_SECONDS": "1"}
    async with (
        machine("context", "orchestrator", "llm", **patience) as here,
        device(here.context(), here.operator()) as phone,
    ):
        session, told = await phone.new_session(), Told()
        await phone.say(session, LONG, told)
        async with asyncio.timeout(20):
            while not any("textDelta" in event for event in await phone.log(session)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        began = time.monotonic()
        here.running["context"].process.send_signal(signal.SIGTERM)
        assert await here.running["context"].ended(30) == 0
        seconds = time.monotonic() - began
        await here.start("context")
        log = await phone.settled(session)
        failed = next(event["turnFailed"] for event in log if "turnFailed" in event)
        found = faults(await phone.history(session, told))
    tell("a turn longer than the drain", f"left after {seconds:.0f} s", len(found))
    assert failed["reason"] == "ERROR_REASON_OWNER_LOST"
    assert failed["retryable"]
    assert failed["partial"]["parts"][0]["text"].startswith("word ")
    assert seconds <= 25
    assert not found
