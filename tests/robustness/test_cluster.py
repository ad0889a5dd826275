"""Two processes of every room behind Envoy, one after the other killed: nothing acknowledged is lost in any of them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import uuid
from collections import Counter
from typing import Any

import grpc
import pytest

from assistant.agent.v1 import agent_pb2, agent_pb2_grpc
from assistant.generation.v1 import generation_pb2, generation_pb2_grpc
from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.session.v1 import session_pb2
from chassis import ids
from chassis.dial import streaming
from chassis.tasks import Tasks
from mesh.rooms import ROOMS
from tests.robustness.checker import faults
from tests.robustness.client import Device, Reader, Told, device
from tests.robustness.cluster import cluster
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROUNDS = {False: 1, True: 10}  # in each round one process of every room is killed
ROLLS = {False: 1, True: 5}
TALKS = 2


@pytest.mark.requirement("OPS-4", "CHAT-2", "MED-1")
async def test_one_process_of_every_room_is_killed_and_nothing_acknowledged_is_lost(
    postgres_url: str, long_loops: bool
) -> None:
    async with cluster(postgres_url, f"clu{uuid.uuid4().hex[:8]}") as here:
        address = f"127.0.0.1:{here.edge.port}"
        async with device(address, here.machine.operator("context1")) as phone:
            kept: dict[str, bytes] = {}
            stop, tolds = asyncio.Event(), [Told() for _ in range(TALKS)]
            sessions = [await phone.new_session() for _ in tolds]
            readers = [Reader(phone, session) for session in sessions]
            async with Tasks() as tasks:
                for reader in readers:
                    tasks.spawn("read", reader.run())
                works = [
                    tasks.spawn("talk", talk(phone, session, told, stop))
                    for session, told in zip(sessions, tolds, strict=True)
                ]
                works.append(tasks.spawn("keep files", keep_files(phone, kept, stop)))
                for number in range(ROUNDS[long_loops]):
                    for room in ROOMS:
                        await let_it_work(kept, tolds)
                        here.kill(room, 1 + number % 2)
                        await let_it_work(kept, tolds)
                        await here.start(room, 1 + number % 2)
                stop.set()
                await asyncio.gather(*works)
                found, failed = list[str](), 0
                for session, reader, told in zip(sessions, readers, tolds, strict=True):
                    log = await phone.settled(session)
                    await reader.reach(int(log[-1]["sequence"]))
                    told.readings.append(reader.reading())
                    found += faults(await phone.history(session, told))
                    ends = [event["turnFailed"] for event in log if "turnFailed" in event]
                    found += [f"a failure is final: {end}" for end in ends if not end.get("retryable")]
                    failed += len(ends)
            lost = [name for name, data in kept.items() if await fetched(phone, name) != data]
            models = generation_pb2_grpc.GenerationServiceStub(phone.channel)
            listing = generation_pb2.ListModelsRequest()
            await phone.insist(lambda: models.ListModels(listing, metadata=phone.metadata, timeout=5))
    messages = sum(len(each.acknowledged) for each in tolds)
    kills = ROUNDS[long_loops] * len(ROOMS)
    counted = f"{kills} kills, {messages} messages and {len(kept)} files acknowledged, {failed} turns failed"
    tell("one process of each room killed", counted, len(found) + len(lost))
    assert not found
    assert not lost
    assert failed <= kills * TALKS  # a kill ends at most what ran there


@pytest.mark.requirement("OPS-1")
async def test_a_rolling_restart_of_every_room_fails_no_call_and_no_turn(
    postgres_url: str, long_loops: bool
) -> None:
    async with cluster(postgres_url, f"rol{uuid.uuid4().hex[:8]}", linger=5) as here:
        address = f"127.0.0.1:{here.edge.port}"
        async with device(address, here.machine.operator("context1")) as phone, Tasks() as tasks:
            session, told, stop, calls = await phone.new_session(), Told(), asyncio.Event(), Counter[str]()
            reader = Reader(phone, session)
            tasks.spawn("read", reader.run())
            works = [tasks.spawn("call", keep_calling(phone, session, stop, calls))]
            works.append(tasks.spawn("talk", talk(phone, session, told, stop)))
            leaving = []
            for number in range(ROLLS[long_loops]):
                for room in ROOMS:
                    leaving.append(await here.leave(room, 1 + number % 2))
                    await here.start(room, 1 + number % 2)
                    await asyncio.sleep(3)  # until Envoy has asked for its health again
            stop.set()
            await asyncio.gather(*works)
            log = await phone.settled(session)
            await reader.reach(int(log[-1]["sequence"]))
            told.readings.append(reader.reading())
            found = faults(await phone.history(session, told))
            found += [f"a turn failed: {event['turnFailed']}" for event in log if "turnFailed" in event]
    failed = {key: count for key, count in calls.items() if key != "OK"}
    counted = f"{len(leaving)} restarts, {calls['OK']} unary calls, {len(told.acknowledged)} turns"
    tell("rolling restart of every room", counted, len(found) + sum(failed.values()))
    assert not found
    assert not failed
    assert max(leaving) <= 25


async def keep_calling(phone: Device, session: str, stop: asyncio.Event, calls: Counter[str]) -> None:
    """Ask every room by unary calls, none of which is tried again."""
    models: Any = generation_pb2_grpc.GenerationServiceStub(phone.channel)
    files: Any = media_pb2_grpc.MediaServiceStub(phone.channel)
    agent: Any = agent_pb2_grpc.AgentServiceStub(phone.channel)
    while not stop.is_set():
        asked: tuple[tuple[Any, Any], ...] = (
            (phone.sessions.GetSession, session_pb2.GetSessionRequest(session_id=session)),
            (phone.sessions.CreateSession, session_pb2.CreateSessionRequest(session_id=ids.uuid())),
            (models.ListModels, generation_pb2.ListModelsRequest()),
            (files.ListMedia, media_pb2.ListMediaRequest()),
            (agent.ListCapabilities, agent_pb2.ListCapabilitiesRequest()),
        )
        for call, request in asked:
            try:
                await call(request, metadata=phone.metadata, timeout=10)
                calls["OK"] += 1
            except grpc.aio.AioRpcError as error:
                calls[f"{type(request).__name__}: {error.code().name}: {error.details()}"] += 1
            await asyncio.sleep(0.02)


async def let_it_work(kept: dict[str, bytes], tolds: list[Told]) -> None:
    """Return once something was said and kept in the state that the cluster is in now."""

    def counted() -> tuple[int, ...]:
        return (len(kept), *(len(told.acknowledged) for told in tolds))

    before = counted()
    async with asyncio.timeout(60):
        while not all(now > then for now, then in zip(counted(), before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def talk(phone: Device, session: str, told: Told, stop: asyncio.Event) -> None:
    for number in itertools.count():
        if stop.is_set():
            return
        words = ("stream 20 tokens 5 ms apart", "What is 17*23?")[number % 2]
        await phone.say(session, words, told)
        await phone.settled(session)


async def keep_files(phone: Device, kept: dict[str, bytes], stop: asyncio.Event) -> None:
    """Upload one file after the other; `kept` has those that were acknowledged."""
    files: Any = media_pb2_grpc.MediaServiceStub(phone.channel)
    for number in itertools.count():
        if stop.is_set():
            return
        data = f"file {number} ".encode() * 1_000
        header = media_pb2.UploadHeader(
            request_id=ids.uuid(),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            file_name=f"{number}.txt",
        )
        frames = [media_pb2.UploadMediaRequest(header=header), media_pb2.UploadMediaRequest(chunk=data)]
        answer = await phone.insist(
            lambda frames=frames: files.UploadMedia(iter(frames), metadata=phone.metadata, timeout=5)  # type: ignore[misc]
        )
        kept[answer.media.id] = data


async def fetched(phone: Device, media_id: str) -> bytes:
    files: Any = media_pb2_grpc.MediaServiceStub(phone.channel)

    async def whole() -> bytes:
        pieces: list[bytes] = []
        request = media_pb2.DownloadMediaRequest(media_id=media_id)
        async with streaming(files.DownloadMedia(request, metadata=phone.metadata, timeout=10)) as call:
            async for frame in call:
                pieces.append(frame.chunk)
        return b"".join(pieces)

    try:
        return await phone.insist(whole)
    except grpc.aio.AioRpcError as error:
        return repr(error).encode()
