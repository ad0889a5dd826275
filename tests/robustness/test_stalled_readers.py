"""Two hundred readers that take nothing cost a bounded amount of memory, and nobody else's time."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.turn.v1 import turn_pb2
from chassis import engines
from chassis.testing import socket_directory
from tests.interaction.context_svc.conversation_room import (
    PlayedOrchestrator,
    Room,
    Stage,
    answers_at_once,
    room,
)

pytestmark = [pytest.mark.slow, pytest.mark.requirement("CHAT-12"), pytest.mark.timeout(300)]
READERS = 200
MOST = 64 * 1024 * 1024
ROOT = Path(__file__).parents[2]


async def says_much(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
    yield stage.started()
    for _ in range(200):
        progress = chat_pb2.ToolProgress(call_id="c", message="x" * 20_000)
        yield stage.event(tool_progress=progress)
    yield stage.finished("so")


@asynccontextmanager
async def stalled_readers(address: str, session: str) -> AsyncIterator[None]:
    """A process whose streams are open and unread."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.robustness.stalled",
        address,
        session,
        str(READERS),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'generated'}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        assert await asyncio.wait_for(child.stdout.readline(), 60) == b"stalled\n"
        yield
    finally:
        child.stdin.close()
        await asyncio.wait_for(child.wait(), 30)


async def turns(here: Room, session: str, count: int = 30) -> list[float]:
    """Seconds from sending to the end, turn by turn."""
    here.orchestrator.play = answers_at_once
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await here.say(session, "hi")
        taken.append(time.perf_counter() - began)
    return taken


async def test_200_stalled_readers_cost_64_mib_at_most_and_nobodys_time(tmp_path: Path) -> None:
    with socket_directory() as folder:
        address = f"unix:{folder}/t.sock"
        async with (
            engines.connect(f"sqlite://{tmp_path}/t.db", schema="") as database,
            room(database, PlayedOrchestrator(), watched=True, address=address) as here,
        ):
            here.readers._per_account = 2 * READERS
            watched, other = await here.session(), await here.session()
            await turns(here, other, 10)
            alone = await turns(here, other)
            async with stalled_readers(address, watched):
                before = _resident()
                here.orchestrator.play = says_much
                send = chat_pb2.SendMessageRequest(message=here.message(watched, "go"), follow=True)
                last = [frame async for frame in here.stub.SendMessage(send, timeout=120)][-1]
                assert last.event.HasField("turn_finished")
                assert len(here.readers) == READERS
                grown = _resident() - before
                beside = await turns(here, other)
    slower = statistics.median(beside) / statistics.median(alone)
    print(  # noqa: T201 - the loop's figures
        f"\n{READERS} stalled readers of 4 MB: {grown / 2**20:.1f} MiB; a turn beside them {slower:.2f} x"
        f" ({statistics.median(alone) * 1000:.1f} ms alone)"
    )
    assert grown <= MOST
    assert statistics.median(beside) <= 2 * statistics.median(alone) + 0.02


def _resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
