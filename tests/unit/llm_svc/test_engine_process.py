"""The engine's supervision, with small programs in the engine's place."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from chassis.tasks import Tasks
from chassis.testing import FakeClock, eventually
from llm_svc.engine.options import Options
from llm_svc.engine.process import HOPELESS_CRASHES, EngineProcess, Phase, retry_delay
from llm_svc.errors import EngineCrashed, ModelLoading

pytestmark = pytest.mark.requirement("LLM-7")

SERVES = "import sys; print('ready', flush=True); sys.stdin.read()"
LOADS = "import sys; sys.stdin.read()"
FAILS = "import sys; sys.exit('no such file')"
DEAF = "import time; print('ready', flush=True); time.sleep(60)"
OPTIONS = Options(
    model="m.gguf", socket="/tmp/no.sock", state_dir="/tmp", context_tokens=1, parallel=1, threads=1
)


@asynccontextmanager
async def engine(
    program: str, phases: list[Phase] | None = None
) -> AsyncIterator[tuple[EngineProcess, FakeClock]]:
    clock, heard = FakeClock(), phases if phases is not None else []

    async def warm() -> None:
        return None

    async with Tasks() as tasks:
        process = EngineProcess(
            OPTIONS,
            tasks=tasks,
            clock=clock,
            warm=warm,
            on_phase=heard.append,
            command=(sys.executable, "-c", program),
        )
        await process.start()
        try:
            yield process, clock
        finally:
            await process.close()


async def test_it_loads_warms_and_serves() -> None:
    phases: list[Phase] = []
    async with engine(SERVES, phases) as (process, _):
        assert await process.wait_ready(5)
        process.require_ready()
        assert process.loaded == 1.0
    assert phases == [Phase.LOADING, Phase.WARMING, Phase.READY, Phase.STOPPED]


async def test_a_request_before_it_is_loaded_is_told_so() -> None:
    async with engine(LOADS) as (process, _):
        await eventually(lambda: process.progress.phase is Phase.LOADING)
        with pytest.raises(ModelLoading):
            process.require_ready()


async def test_a_killed_engine_is_started_again_after_a_pause() -> None:
    async with engine(SERVES) as (process, clock):
        assert await process.wait_ready(5)
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: process.progress.phase is Phase.CRASHED)
        with pytest.raises(EngineCrashed):
            process.require_ready()
        assert process.is_coming
        await clock.asleep()
        await clock.advance(timedelta(seconds=retry_delay(1)))
        assert await process.wait_ready(5)
        assert process.pid != first


async def test_one_that_crashes_again_and_again_is_not_waited_for() -> None:
    async with engine(FAILS) as (process, clock):
        for crashes in range(1, HOPELESS_CRASHES + 1):
            await clock.asleep()
            assert process.is_coming == (crashes < HOPELESS_CRASHES)
            await clock.advance(timedelta(seconds=retry_delay(crashes)))


@pytest.mark.slow
async def test_closing_ends_the_child_even_one_that_does_not_listen() -> None:
    async with engine(DEAF) as (process, _):
        assert await process.wait_ready(5)
        pid = process.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_pauses_grow_to_a_limit() -> None:
    assert [retry_delay(crashes) for crashes in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, 30.0]


def test_a_socket_that_would_be_taken_for_a_host_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\.sock"):
        Options(model="m", socket="/tmp/engine", state_dir="/tmp", context_tokens=1, parallel=1, threads=1)
