"""Rows of single calls: what a room adds to a bare echo, and what many writers of one thing cost."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
from google.protobuf.struct_pb2 import Value

from assistant.context.v1 import context_pb2, context_pb2_grpc
from assistant.session.v1 import session_pb2, session_pb2_grpc
from benchmarks.rows import MS, Row
from benchmarks.world import Client, bare

Call = Callable[[], Awaitable[object]]
WRITERS = 64


async def get_session_over_echo(here: Client) -> Row:
    """GetSession through context_svc over a bare echo, each on its unix socket, taking turns."""
    request = session_pb2.GetSessionRequest(session_id=await here.session())
    async with _room(here) as (room, metadata):
        stub = session_pb2_grpc.SessionServiceStub(room)
        return await _over_echo("GetSession", lambda: stub.GetSession(request, metadata=metadata), 40)


async def get_context_over_echo(here: Client, items: int = 5) -> Row:
    """GetContext of a session with a few items over an echo of as many bytes, taking turns."""
    session = await here.session()
    async with _room(here) as (room, metadata):
        stub = context_pb2_grpc.ContextServiceStub(room)
        await stub.UpdateContext(_write(session, items), metadata=metadata)
        request = context_pb2.GetContextRequest(session_id=session)
        size = (await stub.GetContext(request, metadata=metadata)).ByteSize()
        name = f"GetContext of {items} items"
        return await _over_echo(name, lambda: stub.GetContext(request, metadata=metadata), size)


async def update_context(here: Client, commit: float, calls: int = 300) -> Row:
    """One write of one item, alone, over a commit of this disk."""
    session = await here.session()
    async with _room(here) as (room, metadata):
        stub = context_pb2_grpc.ContextServiceStub(room)
        taken = []
        for _ in range(calls):
            request = _write(session, 1)
            began = time.perf_counter()
            await stub.UpdateContext(request, metadata=metadata)
            taken.append(time.perf_counter() - began)
    p50 = statistics.median(taken)
    return Row(
        name="UpdateContext of one item, alone, p50",
        value=p50 * MS,
        unit="ms",
        target="",
        met=None,
        detail=f"a commit alone: {commit * MS:.2f} ms",
    )


async def writers_of_one_context(here: Client, rounds: int = 10) -> Row:
    """64 writers of one context at once; every write must be there afterwards."""
    session = await here.session()
    async with _room(here) as (room, metadata):
        stub = context_pb2_grpc.ContextServiceStub(room)

        async def writer(number: int) -> None:
            for _ in range(rounds):
                request = _write(session, 1, first=number)
                await stub.UpdateContext(request, metadata=metadata)

        began = time.perf_counter()
        await asyncio.gather(*map(writer, range(WRITERS)))
        rate = WRITERS * rounds / (time.perf_counter() - began)
        request = context_pb2.GetContextRequest(session_id=session)
        found = await stub.GetContext(request, metadata=metadata)
    lost = WRITERS * rounds - found.session_cursor.version
    if lost or len(found.items) != WRITERS:
        raise RuntimeError(f"{lost} writes lost, {len(found.items)} of {WRITERS} keys")
    return Row(
        name=f"UpdateContext, {WRITERS} writers of one context",
        value=rate,
        unit="writes/s",
        target="none lost",
        met=True,
        detail=f"{WRITERS * rounds} writes, each a version of its own",
    )


@asynccontextmanager
async def _room(here: Client) -> AsyncIterator[tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]]:
    """context_svc's own socket, and the metadata with which Envoy would call it."""
    async with grpc.aio.insecure_channel(here.mesh.context_socket) as channel:
        yield channel, (*here.mesh.metadata, ("x-request-id", str(uuid.uuid4())))


async def _over_echo(name: str, call: Call, size: int, calls: int = 2000, at_once: int = 32) -> Row:
    """Calls a second over those of a bare echo of `size` bytes; the median of five pairs."""
    with bare() as (_, address):
        async with grpc.aio.insecure_channel(address) as channel:
            echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/bench.Echo/Echo")
            pairs = []
            for _ in range(5):
                floor = await _calls_per_second(calls, at_once, lambda: echo(b"x" * size))
                pairs.append((await _calls_per_second(calls, at_once, call), floor))
    ours, floor = sorted(pairs)[len(pairs) // 2]
    ratio = statistics.median(ours / floor for ours, floor in pairs)
    return Row(
        name=f"{name} over a bare grpc.aio echo",
        value=ratio,
        unit="x",
        target="≥ 0.5 x",
        met=ratio >= 0.5,
        detail=f"{ours:.0f} against {floor:.0f} calls/s, {at_once} at once, {size} bytes",
    )


async def _calls_per_second(calls: int, at_once: int, act: Call) -> float:
    async def some() -> None:
        for _ in range(calls // at_once):
            await act()

    began = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return calls / (time.perf_counter() - began)


def _write(session: str, items: int, *, first: int = 0) -> context_pb2.UpdateContextRequest:
    return context_pb2.UpdateContextRequest(
        session_id=session,
        request_id=str(uuid.uuid4()),
        items=[
            context_pb2.ContextItemWrite(key=f"key-{number}", value=Value(string_value="a value"))
            for number in range(first, first + items)
        ],
    )
