"""Rows of a turn that acts: a step with a tool beyond the tool's own time, several tools at once, and stopping one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from assistant.agent.v1 import agent_pb2
from benchmarks import direct
from benchmarks.additions import served
from benchmarks.rows import MS, Row
from benchmarks.world import Client

CALCULATION = "1 calls of calculate with expression 1+1"
AT_ONCE = 8
WAIT = 0.1  # seconds
_HANG = 60.0
_LOADS = 60.0  # seconds that a server's tools may take to be there


class Tools:
    """A server with a tool that waits a moment, and one that waits until it is stopped."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.server = MCPServer("bench", log_level="ERROR")
        reads = ToolAnnotations(read_only_hint=True)
        for tool in (self.wait, self.hang):
            self.server.add_tool(tool, description="Waits.", annotations=reads)

    async def wait(self, which: str) -> str:
        """Wait a moment. Two calls that are alike would be run once."""
        await asyncio.sleep(WAIT)
        return which

    async def hang(self) -> str:
        """Wait to be stopped, and note when that was."""
        self.begun.set()
        try:
            await asyncio.sleep(_HANG)
        except asyncio.CancelledError:
            self.told.set_result(time.perf_counter())
            raise
        return "nobody stopped it"

    def again(self) -> None:
        """Nothing has begun."""
        self.begun.clear()
        self.told = asyncio.get_running_loop().create_future()


async def rows(here: Client, port: int) -> list[Row]:
    """Every row of a turn that acts."""
    async with _added(here) as tools:
        return [await _step(here, port), await _together(here), await _stopped(here, tools)]


async def _step(here: Client, port: int, turns: int = 60) -> Row:
    """A turn with one tool that does nothing, and so one more step of the model, against one without, taking turns."""
    acting, talking, provider = [], [], []
    own: list[float] = []
    async with httpx.AsyncClient() as http:
        for number in range(turns + 5):
            one = await here.turn(await here.session(), CALCULATION)
            other = await here.turn(await here.session(), "5 tokens")
            bare = await direct.turn(http, port, "5 tokens")
            if number >= 5:
                acting.append(one.seconds - sum(one.actions))
                own += one.actions
                talking.append(other.seconds)
                provider.append(bare.seconds)
    if len(own) != turns:
        raise RuntimeError(f"{len(own)} of {turns} tools ran")
    with_it, without = statistics.median(acting) * MS, statistics.median(talking) * MS
    added = with_it - without
    return Row(
        name="a step with one tool, beyond the tool's own time",
        value=added,
        unit="ms",
        target="≤ 10 ms",
        met=added <= 10,
        detail=f"a turn {with_it:.1f} ms, without it {without:.1f}; the tool itself {statistics.median(own) * MS:.2f},"
        f" the provider's second answer {statistics.median(provider) * MS:.1f}",
    )


async def _together(here: Client, turns: int = 20) -> Row:
    """A turn whose step asks for eight tools that wait over one whose step asks for one, taking turns."""
    one, many = [], []
    for number in range(turns + 2):
        single = await _waiting(here, 1)
        several = await _waiting(here, AT_ONCE)
        if number >= 2:
            one.append(single)
            many.append(several)
    whole, alone = statistics.median(many) * MS, statistics.median(one) * MS
    ratio = whole / alone
    return Row(
        name=f"a turn with {AT_ONCE} tools of {WAIT * MS:.0f} ms at once over one with one",
        value=ratio,
        unit="x",
        target="≤ 1.2 x",
        met=ratio <= 1.2,
        detail=f"{whole:.0f} against {alone:.0f} ms; tools of an MCP server",
    )


async def _waiting(here: Client, tools: int) -> float:
    said = " ".join(map(str, range(tools)))  # what a person typed needs no approval
    timing = await here.turn(await here.session(), f"{tools} calls of bench__wait with which #: {said}")
    if len(timing.actions) != tools or min(timing.actions) < WAIT:
        raise RuntimeError(f"{tools} tools did not wait: {timing.actions}")
    return timing.seconds


async def _stopped(here: Client, tools: Tools, turns: int = 20) -> Row:
    """From CancelTurn to the moment at which the tool itself is told, in the server that runs it."""
    taken = []
    for _ in range(turns):
        tools.again()
        asked, _ = await here.cancelled_turn(await here.session(), "1 calls of bench__hang", tools.begun.wait)
        taken.append(await asyncio.wait_for(tools.told, 20) - asked)
    worst = max(taken) * MS
    return Row(
        name="running tool told after CancelTurn, the slowest",
        value=worst,
        unit="ms",
        target="≤ 500 ms",
        met=worst <= 500,
        detail=f"{turns} turns, p50 {statistics.median(taken) * MS:.1f} ms; a tool of an MCP server",
    )


@asynccontextmanager
async def _added(here: Client) -> AsyncIterator[Tools]:
    """The tools, as an owner adds them to a running mesh."""
    tools = Tools()
    async with served(tools.server) as url:
        await here.mesh.command("mcp", "add", "bench", "--url", url, "--private", "--yes")
        async with asyncio.timeout(_LOADS):
            while "bench__hang" not in await _ready(here):  # noqa: ASYNC110 - it announces itself by no event
                await asyncio.sleep(0.1)
        yield tools


async def _ready(here: Client) -> Sequence[str]:
    request = agent_pb2.ListCapabilitiesRequest()
    listed = await here.agent.ListCapabilities(request, metadata=here.mesh.metadata, timeout=30)
    return [each.name for each in listed.actions if each.state == agent_pb2.ACTION_STATE_READY]
