"""The rows of llm_svc alone: what it adds between its caller and a provider."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import httpx

from assistant.generation.v1 import generation_pb2 as pb
from assistant.generation.v1 import generation_pb2_grpc as rpc
from assistant.message.v1 import message_pb2
from benchmarks import direct
from benchmarks.processes import cpu_seconds
from benchmarks.rows import MS, Row
from benchmarks.world import ROOT, Timing, gather, surroundings


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """llm_svc in its process."""

    stub: rpc.GenerationServiceStub
    pid: int

    async def turn(self, words: str) -> Timing:
        """One step: seconds to its first text and in all, and the tokens received."""
        part = pb.WindowPart(text=words)
        window = pb.Window(messages=[pb.WindowMessage(role=message_pb2.ROLE_USER, parts=[part])])
        began = time.perf_counter()
        first, received = 0.0, 0
        call = self.stub.Generate()
        await call.write(pb.GenerateRequest(start=pb.StartGeneration(model="bench", window=window)))
        await call.done_writing()
        async for frame in call:
            if frame.text:
                first = first or time.perf_counter() - began
                received += frame.text.count("token ")
        return Timing(first_token=first, seconds=time.perf_counter() - began, tokens=received)


@asynccontextmanager
async def room(port: int) -> AsyncIterator[Room]:
    """llm_svc before the provider at that port."""
    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as folder:
        socket = f"{folder}/l.sock"
        child = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
            [sys.executable, "-m", "benchmarks.llm_room", socket, folder, str(port)],
            cwd=ROOT,
            env=surroundings(),
            stdout=subprocess.PIPE,
        )
        try:
            assert child.stdout is not None
            child.stdout.readline()
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                yield Room(stub=rpc.GenerationServiceStub(channel), pid=child.pid)
        finally:
            child.terminate()
            child.wait(10)


async def rows(port: int) -> list[Row]:
    """Every row of llm_svc alone."""
    async with room(port) as here:
        await gather(20, lambda _: here.turn("20 tokens"))  # connections and code are warm
        return [await _first_token(here, port), await _at_speed(here), *await _streams(here)]


async def _first_token(here: Room, port: int, turns: int = 100) -> Row:
    through, bare = [], []
    async with httpx.AsyncClient() as http:
        for _ in range(turns):
            through.append((await here.turn("5 tokens")).first_token)
            bare.append((await direct.turn(http, port, "5 tokens")).first_token)
    added = (statistics.median(through) - statistics.median(bare)) * MS
    return Row(
        name="first token added by llm_svc alone",
        value=added,
        unit="ms",
        target="≤ 3 ms",
        met=added <= 3,
        detail=f"through it p50 {statistics.median(through) * MS:.2f}, provider p50 {statistics.median(bare) * MS:.2f}",
    )


async def _at_speed(here: Room, streams: int = 8, tokens: int = 5000) -> Row:
    """A provider that is not the limit: a read holds many chunks, and so does a frame."""
    used, began = cpu_seconds(here.pid), time.perf_counter()
    timings = await gather(streams, lambda _: here.turn(f"{tokens} tokens"))
    seconds, used = time.perf_counter() - began, cpu_seconds(here.pid) - used
    chunks = sum(timing.tokens for timing in timings)
    return _processor_time(f"{streams} streams at full speed", used, chunks, seconds)


def _processor_time(how: str, used: float, chunks: int, seconds: float) -> Row:
    micro = used / chunks * 1e6
    return Row(
        name=f"processor time of llm_svc for a relayed chunk, {how}",
        value=micro,
        unit="µs",
        target="≤ 40 µs",
        met=micro <= 40,
        detail=f"{chunks} chunks in {seconds:.1f} s, {used:.2f} s of processor time",
    )


async def _streams(here: Room, streams: int = 100, tokens: int = 200) -> list[Row]:
    """100 streams, 20 ms between tokens: nearly every token is a chunk of its own."""
    words = f"{tokens} tokens, 20 ms apart"
    used, began = cpu_seconds(here.pid), time.perf_counter()
    timings = await gather(streams, lambda _: here.turn(words))
    seconds, used = time.perf_counter() - began, cpu_seconds(here.pid) - used
    chunks = sum(timing.tokens for timing in timings)
    rate = chunks / seconds
    return [
        _processor_time(f"{streams} streams, 20 ms apart", used, chunks, seconds),
        Row(
            name=f"deltas relayed by llm_svc, {streams} streams",
            value=rate,
            unit="1/s",
            target="≥ 4500 1/s",
            met=rate >= 4500,
            detail=f"{chunks} chunks in {seconds:.1f} s; 5000 1/s were sent",
        ),
    ]
