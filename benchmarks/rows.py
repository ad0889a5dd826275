"""The rows: each measures both sides in this run and says what it compares."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.message.v1 import message_pb2
from benchmarks import direct
from benchmarks.world import ROOT, Client, Timing, gather
from chassis import engines
from chassis.database import Statement, Unit
from chassis.migrations import Migration

MS = 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure with its target; `met` is None where there is none."""

    name: str
    value: float
    unit: str
    target: str
    met: bool | None
    detail: str


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def commit_p50() -> float:
    """Seconds of one durable commit on this disk, median of 200."""
    table = Migration(version=1, name="bench", sql={"all": "CREATE TABLE t (id TEXT PRIMARY KEY)"})

    def insert() -> Unit[None]:
        yield Statement("INSERT INTO t (id) VALUES (:id)", {"id": str(uuid.uuid4())})

    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as folder:
        async with engines.connect(f"sqlite://{folder}/t.db", schema="") as database:
            await database.migrate([table])
            taken = []
            for _ in range(200):
                began = time.perf_counter()
                await database.write("t", insert)
                taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def first_token_one(here: Client, port: int, commit: float, turns: int = 60) -> Row:
    """Time to the first token that the mesh adds, one stream, mesh and provider in turn."""
    session = await here.session()
    through, bare = [], []
    async with httpx.AsyncClient() as http:
        for number in range(turns + 5):
            one, other = await here.turn(session, "5 tokens"), await direct.turn(http, port, "5 tokens")
            if number >= 5:
                through.append(one.first_token)
                bare.append(other.first_token)
    added = (statistics.median(through) - statistics.median(bare)) * MS
    limit = 12 + 2 * commit * MS
    return Row(
        name="first token added by the mesh, 1 stream",
        value=added,
        unit="ms",
        target=f"≤ {limit:.1f} ms (12 + 2 commits of {commit * MS:.2f})",
        met=added <= limit,
        detail=f"mesh p50 {statistics.median(through) * MS:.1f}, provider p50 {statistics.median(bare) * MS:.1f}",
    )


async def first_token_many(here: Client, port: int, streams: int = 100, tokens: int = 100) -> list[Row]:
    """The same with 100 streams at once, 20 ms between tokens."""
    words = f"{tokens} tokens, 20 ms apart"
    sessions = await asyncio.gather(*(here.session() for _ in range(streams)))
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as http:
        bare = await gather(streams, lambda _: direct.turn(http, port, words))
    began = time.perf_counter()
    through = await gather(streams, lambda index: here.turn(sessions[index], words))
    seconds = time.perf_counter() - began
    floor = statistics.median(each.first_token for each in bare)
    p50 = (statistics.median(each.first_token for each in through) - floor) * MS
    p99 = (percentile([each.first_token for each in through], 0.99) - floor) * MS
    rate = sum(each.tokens for each in through) / seconds
    bare_rate = sum(each.tokens for each in bare) / max(each.seconds for each in bare)
    detail = f"provider alone: p50 {floor * MS:.1f} ms, {bare_rate:.0f} tokens/s"
    return [
        Row(
            name=f"first token added, {streams} streams, p50",
            value=p50,
            unit="ms",
            target="≤ 60 ms",
            met=p50 <= 60,
            detail=detail,
        ),
        Row(
            name=f"first token added, {streams} streams, p99",
            value=p99,
            unit="ms",
            target="≤ 200 ms",
            met=p99 <= 200,
            detail=detail,
        ),
        Row(
            name=f"tokens delivered, {streams} streams",
            value=rate,
            unit="tokens/s",
            target="≥ 4500 tokens/s",
            met=rate >= 4500,
            detail=detail,
        ),
    ]


async def relayed(here: Client, port: int, streams: int = 8, tokens: int = 5000) -> Row:
    """Tokens relayed end to end when the provider is not the limit."""
    words = f"{tokens} tokens"
    sessions = await asyncio.gather(*(here.session() for _ in range(streams)))
    async with httpx.AsyncClient() as http:
        bare = await _rate(streams, lambda _: direct.turn(http, port, words))
    rate = await _rate(streams, lambda index: here.turn(sessions[index], words))
    return Row(
        name="tokens relayed end to end",
        value=rate,
        unit="tokens/s",
        target="≥ 20000 tokens/s",
        met=rate >= 20_000,
        detail=f"{streams} streams; httpx at the provider alone: {bare:.0f} tokens/s",
    )


async def cancelled(here: Client, port: int, turns: int = 20) -> Row:
    """From CancelTurn to the moment at which the provider sees its client gone, on the machine's steady clock."""
    session = await here.session()
    taken, ended = [], []
    async with httpx.AsyncClient() as http:
        for _ in range(turns):
            asked, over = await here.cancelled_turn(session, "3000 tokens, 10 ms apart")
            ended.append(over - asked)
            left = await _gone(http, port, asked)
            taken.append(left - asked)
    worst = max(taken) * MS
    return Row(
        name="provider stopped after CancelTurn, the slowest",
        value=worst,
        unit="ms",
        target="≤ 500 ms",
        met=worst <= 500,
        detail=f"{turns} turns, p50 {statistics.median(taken) * MS:.1f} ms; TurnCancelled seen after"
        f" {statistics.median(ended) * MS:.1f} ms",
    )


async def long_session(here: Client, messages: int, turns: int = 60) -> Row:
    """What a turn costs in a long session over one in a session of ten messages, taking turns."""
    long = await _session_of(here, messages)
    long_ones, short_ones = [], []
    for number in range(turns):
        if number % 5 == 0:  # a short session stays short
            short = await _session_of(here, 10)
        long_ones.append((await here.turn(long, "5 tokens")).seconds)
        short_ones.append((await here.turn(short, "5 tokens")).seconds)
    floor = statistics.median(short_ones)
    ratio = statistics.median(long_ones) / floor
    return Row(
        name=f"a turn with {messages:,} messages in the session over 10",
        value=ratio,
        unit="x",
        target="≤ 1.2 x",
        met=ratio <= 1.2,
        detail=f"with 10 messages: {floor * MS:.1f} ms",
    )


async def _gone(http: httpx.AsyncClient, port: int, after: float) -> float:
    """When the provider's client went away, once it did: asked for, as the provider is another process."""
    for _ in range(2_000):
        left = (await http.get(f"http://127.0.0.1:{port}/left")).json()
        if left and left[-1] >= after:
            return float(left[-1])
        await asyncio.sleep(0.005)
    raise RuntimeError("the provider was not stopped")


async def _session_of(here: Client, messages: int) -> str:
    """A session with so many messages, written as a device brings in what was said offline: no model, the same rows."""
    session = await here.session()
    async with grpc.aio.insecure_channel(here.mesh.context_socket) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        for _ in range(messages // 2):
            await chat.ImportAnswer(
                chat_pb2.ImportAnswerRequest(
                    message=chat_pb2.NewMessage(
                        session_id=session,
                        client_message_id=str(uuid.uuid4()),
                        parts=[message_pb2.Part(text="5 tokens")],
                    ),
                    answer=[message_pb2.Part(text="token " * 5)],
                    model="bench",
                    mode=chat_pb2.IMPORT_MODE_KEEP,
                ),
                metadata=here.mesh.metadata,
            )
    return session


async def _rate(streams: int, act: Callable[[int], Awaitable[Timing]]) -> float:
    began = time.perf_counter()
    timings = await gather(streams, act)
    return sum(each.tokens for each in timings) / (time.perf_counter() - began)


def history() -> Path:
    """The file that keeps every run."""
    return ROOT / "benchmarks" / "history.jsonl"
