"""Two processes of context_svc on one PostgreSQL: readers on one see what the other does, and either may go."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time

import grpc
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.identity.v1 import identity_pb2
from assistant.message.v1 import message_pb2
from chassis import ids
from chassis.dial import streaming
from chassis.tasks import Tasks
from tests.robustness.checker import faults
from tests.robustness.client import Device, Reader, Told, device
from tests.robustness.mesh import Machine, front, machine
from tests.robustness.provider import ENDLESS, Provider
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = {False: 1, True: 20}
STOPS = {False: 3, True: 40}
PROMISED = (
    1.5  # seconds until a provider is stopped, asked for at another replica; promised, and only counted here
)
_schemas = itertools.count(1)


def shared(url: str) -> dict[str, str]:
    """A schema of this test's own."""
    return {"database": url, "CONTEXT_DATABASE_SCHEMA": f"rep{next(_schemas)}"}


@pytest.mark.requirement("OPS-4", "CHAT-3")
async def test_a_reader_on_one_replica_follows_a_turn_that_runs_on_the_other(postgres_url: str) -> None:
    async with machine("context", "orchestrator", "llm", **shared(postgres_url)) as here:
        await here.start("context", "second")
        async with (
            device(here.context(), here.operator()) as phone,
            device(here.context("second")) as tablet,
            Tasks() as tasks,
        ):
            session, told = await phone.new_session(), Told()
            reader, everything = Reader(tablet, session, "tablet"), Reader(tablet, "", "all sessions")
            tasks.spawn("read", reader.run())
            tasks.spawn("read everything", everything.run())
            await asyncio.wait_for(everything.opened.wait(), 10)
            for _ in range(3):
                await phone.say(session, "stream 20 tokens 5 ms apart", told)
            log = await phone.settled(session)
            last = int(log[-1]["sequence"])
            await asyncio.gather(reader.reach(last), everything.reach(last))
            told.readings += [reader.reading(), everything.reading()]
            assert not faults(await phone.history(session, told))
            assert reader.cuts == everything.cuts == 0

            await tablet.identity.Logout(identity_pb2.LogoutRequest(), metadata=tablet.metadata)
            async with asyncio.timeout(10):
                while await accepted_by(here.context(), tablet):  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.02)


async def accepted_by(address: str, person: Device) -> bool:
    """Whether a replica takes the person's token."""
    other = Device(address)
    other.tokens = person.tokens
    try:
        await other.identity.GetCurrentUser(
            identity_pb2.GetCurrentUserRequest(), metadata=other.metadata, timeout=5
        )
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    finally:
        await other.close()
    return True


@pytest.mark.requirement("OPS-4", "CHAT-2")
@pytest.mark.usefixtures("only_long")
async def test_a_replica_killed_behind_envoy_loses_nothing(postgres_url: str, long_loops: bool) -> None:
    async with machine("context", "orchestrator", "llm", **shared(postgres_url)) as here:
        await here.start("context", "second")
        with front(here, "context", "second") as edge:
            async with device(f"127.0.0.1:{edge.port}", here.operator()) as phone:
                wrong, acknowledged = await talk_while(here, phone, KILLS[long_loops])
    tell("replicas killed", f"{KILLS[long_loops]} kills, {acknowledged} messages acknowledged", len(wrong))
    assert not wrong


@pytest.mark.requirement("CHAT-5", "OPS-4")
async def test_a_turn_is_stopped_through_the_replica_that_does_not_run_it(
    postgres_url: str, long_loops: bool
) -> None:
    async with Provider().running() as provider:
        taken, used = await stop_from_afar(postgres_url, provider, STOPS[long_loops])
    late = sum(each > PROMISED for each in taken)
    counted = (
        f"{len(taken)} turns, p50 {statistics.median(taken):.2f} s, longest {max(taken):.2f} s, {late} late"
    )
    tell("stopped across replicas", counted, 0)
    assert all(usage.estimated and usage.input_tokens and usage.output_tokens for usage in used)


async def stop_from_afar(
    url: str, provider: Provider, turns: int
) -> tuple[list[float], list[message_pb2.Usage]]:
    """Seconds from CancelTurn at one replica to the end that the provider of the other one's turn sees; their usage."""
    taken: list[float] = []
    used: list[message_pb2.Usage] = []
    rooms = ("context", "orchestrator", "llm")
    async with machine(*rooms, **shared(url), **provider.settings) as here:
        await here.start("context", "second")
        async with (
            device(here.context(), here.operator()) as phone,
            device(here.context("second")) as tablet,
        ):
            session = await phone.new_session()
            for number in range(turns):
                request = phone.message(session, ENDLESS)
                request.follow = True
                asked, pieces = 0.0, 1 + 7 * number % 23  # at any moment between two looks
                async with streaming(
                    phone.chat.SendMessage(request, metadata=phone.metadata, timeout=60)
                ) as call:
                    async for frame in call:
                        pieces -= frame.event.HasField("text_delta")
                        if not pieces and not asked:
                            stop = chat_pb2.CancelTurnRequest(
                                session_id=session, turn_id=frame.event.turn_id, request_id=ids.uuid()
                            )
                            asked = time.monotonic()
                            await tablet.chat.CancelTurn(stop, metadata=tablet.metadata, timeout=20)
                assert frame.event.HasField("turn_cancelled")
                used.append(frame.event.turn_cancelled.usage)
                taken.append(await asyncio.wait_for(provider.left.get(), 20) - asked)
    return taken, used


async def talk_while(here: Machine, phone: Device, kills: int) -> tuple[list[str], int]:
    """Two sessions talk while one replica after the other dies and comes back."""
    stop = asyncio.Event()
    tolds = [Told(), Told()]
    sessions = [await phone.new_session() for _ in tolds]
    readers = [Reader(phone, session) for session in sessions]
    async with Tasks() as tasks:
        for reader in readers:
            tasks.spawn("read", reader.run())
        talks = [
            tasks.spawn("talk", talk(phone, session, told, stop))
            for session, told in zip(sessions, tolds, strict=True)
        ]
        for number in range(kills):
            await asyncio.sleep(0.5)
            victim = ("second", "context")[number % 2]
            here.running[victim].kill()
            await here.start("context", victim)
        stop.set()
        await asyncio.gather(*talks)
        for session, reader, told in zip(sessions, readers, tolds, strict=True):
            await reader.reach(int((await phone.settled(session))[-1]["sequence"]))
            told.readings.append(reader.reading())
    histories = [await phone.history(session, told) for session, told in zip(sessions, tolds, strict=True)]
    return [fault for each in histories for fault in faults(each)], sum(
        len(each.acknowledged) for each in histories
    )


async def talk(phone: Device, session: str, told: Told, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await phone.say(session, "stream 10 tokens 2 ms apart", told)
        await asyncio.sleep(0.05)
