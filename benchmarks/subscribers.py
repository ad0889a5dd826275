"""Rows of many people who listen and hear nothing: what each costs beside a bare stream, and whom it delays.

A stream of SubscribeEvents follows all sessions of its account, as a phone does; as many share a connection as Envoy
puts on one. Beside it the bare server of `benchmarks.echo` holds as many streams that say as much as often.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.identity.v1 import identity_pb2, identity_pb2_grpc
from assistant.message.v1 import message_pb2
from benchmarks.echo import EVERY
from benchmarks.logins import PASSWORD, device
from benchmarks.processes import cpu_seconds, memory
from benchmarks.rows import MS, Row, percentile
from benchmarks.world import Client, bare

PER_CONNECTION = 100
MESSAGES = 100
_SETTLED = 3.0  # seconds until what opening a stream took is given back
_WINDOW = 2 * EVERY  # seconds: every stream speaks twice
_KIB = 1024
_HEARTBEAT = chat_pb2.SubscribeEventsResponse(heartbeat=chat_pb2.Heartbeat()).SerializeToString()

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Stream: TypeAlias = "grpc.aio.UnaryStreamCall[Any, Any]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two that are compared: a process, its address, and how each connection opens a stream of it."""

    pid: int
    address: str
    opens: Sequence[Callable[[grpc.aio.Channel], Stream]]


async def rows(here: Client, streams: int = 5_000) -> list[Row]:
    """Needs a mesh that lets anybody register, and PER_CONNECTION streams of an account."""
    people = [await _somebody(here) for _ in range(streams // PER_CONNECTION)]
    with bare() as (pid, address):
        ours = Side(
            pid=here.mesh.process("context"),
            address=here.mesh.context_socket,
            opens=[_subscribes(person) for person in people],
        )
        floor = Side(pid=pid, address=address, opens=[_follows] * len(people))
        sides = ours, floor
        alone = await _deliveries(here)
        for side in sides:
            async with _held(side, 1):  # its code is warm
                pass
        standing = await _used(sides)
        before = [memory(side.pid) for side in sides]
        async with _held(ours, PER_CONNECTION), _held(floor, PER_CONNECTION):
            await asyncio.sleep(_SETTLED)
            sizes = [
                (memory(side.pid) - was) / streams / _KIB for side, was in zip(sides, before, strict=True)
            ]
            used = await _used(sides)
            among = await _deliveries(here)
    shares = [(now - was) / streams * 1e6 for now, was in zip(used, standing, strict=True)]
    return [_memory(sizes, streams), _processor(shares), *_delays(alone, among, streams)]


def _memory(sizes: Sequence[float], streams: int) -> Row:
    ours, floor = sizes
    return Row(
        name="memory of an idle subscriber over a bare stream",
        value=ours / floor,
        unit="x",
        target="≤ 1.5 x",
        met=ours <= 1.5 * floor,
        detail=f"{ours:.1f} against {floor:.1f} KiB, {streams:,} of each at once",
    )


def _processor(shares: Sequence[float]) -> Row:
    ours, floor = shares
    return Row(
        name="processor time of an idle subscriber over a bare stream",
        value=ours / floor,
        unit="x",
        target="≤ 1.5 x",
        met=ours <= 1.5 * floor,
        detail=f"{ours:.1f} against {floor:.1f} µs a second, a heartbeat every {EVERY:.0f} s included",
    )


def _delays(alone: list[float], among: list[float], streams: int) -> list[Row]:
    return [
        Row(
            name=f"from SendMessage to a subscriber among {streams:,} idle ones, {name}",
            value=of(among) * MS,
            unit="ms",
            target="",
            met=None,
            detail=f"alone: {of(alone) * MS:.1f} ms; {MESSAGES} messages in the time of a heartbeat",
        )
        for name, of in (("p50", statistics.median), ("p95", lambda taken: percentile(taken, 0.95)))
    ]


async def _used(sides: Sequence[Side]) -> list[float]:
    """Seconds of processor time in a second that each side uses while nothing happens."""
    before = [cpu_seconds(side.pid) for side in sides]
    began = time.perf_counter()
    await asyncio.sleep(_WINDOW)
    seconds = time.perf_counter() - began
    return [(cpu_seconds(side.pid) - was) / seconds for side, was in zip(sides, before, strict=True)]


@asynccontextmanager
async def _held(side: Side, per_connection: int) -> AsyncIterator[None]:
    """Streams that are open while the block lasts. Raises RuntimeError when one of them ended meanwhile."""
    async with AsyncExitStack() as stack:
        hearing: list[asyncio.Future[None]] = []
        for opens in side.opens:
            channel = await stack.enter_async_context(_connected(side.address))
            streams = [aiter(opens(channel)) for _ in range(per_connection)]
            await asyncio.gather(*map(anext, streams))
            hearing += [asyncio.ensure_future(_hear(stream)) for stream in streams]
        yield
        if ended := sum(each.done() for each in hearing):
            raise RuntimeError(f"{ended} streams have ended")
        for each in hearing:
            each.cancel()
        await asyncio.wait(hearing)


async def _hear(frames: AsyncIterator[object]) -> None:
    async for _ in frames:
        pass


async def _deliveries(here: Client) -> list[float]:
    """Seconds from each message until another stream of the same person tells of it."""
    taken = []
    session = await here.session()
    async with _connected(here.mesh.context_socket) as channel:
        chat, frames = chat_pb2_grpc.ChatServiceStub(channel), aiter(_subscribes(here.mesh.metadata)(channel))
        await anext(frames)
        for _ in range(MESSAGES):
            began = time.perf_counter()
            message = chat_pb2.NewMessage(
                session_id=session,
                client_message_id=str(uuid.uuid4()),
                parts=[message_pb2.Part(text="5 tokens")],
            )
            request = chat_pb2.SendMessageRequest(message=message)
            sent = asyncio.ensure_future(_hear(aiter(chat.SendMessage(request, metadata=here.mesh.metadata))))
            async for frame in frames:
                if frame.event.HasField("turn_accepted"):
                    taken.append(time.perf_counter() - began)
                if frame.event.HasField("turn_finished"):
                    break
            await sent
            await asyncio.sleep(max(0.0, began + EVERY / MESSAGES - time.perf_counter()))
    return taken


def _subscribes(metadata: Metadata) -> Callable[[grpc.aio.Channel], Stream]:
    request = chat_pb2.SubscribeEventsRequest(all_sessions=True)
    return lambda channel: chat_pb2_grpc.ChatServiceStub(channel).SubscribeEvents(request, metadata=metadata)


def _follows(channel: grpc.aio.Channel) -> Stream:
    follow: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/bench.Echo/Follow")
    return follow(_HEARTBEAT)


async def _somebody(here: Client) -> Metadata:
    """What the calls of a new account carry."""
    async with _connected(here.mesh.context_socket) as channel:
        registered = await identity_pb2_grpc.IdentityServiceStub(channel).Register(
            identity_pb2.RegisterRequest(
                request_id=str(uuid.uuid4()),
                email=f"{uuid.uuid4()}@example.org",
                display_name="Bench",
                password=PASSWORD,
                device=device(),
            )
        )
    return (("authorization", f"Bearer {registered.tokens.access_token}"),)


def _connected(address: str) -> grpc.aio.Channel:
    """A connection of its own."""
    return grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
