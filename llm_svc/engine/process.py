"""The engine as a supervised child: started, watched, started again after a crash, ended with us."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from chassis import telemetry
from chassis.clock import Clock
from chassis.tasks import Tasks
from llm_svc.engine.__main__ import READY
from llm_svc.engine.options import Options
from llm_svc.errors import EngineCrashed, ModelLoading

log = telemetry.logger(__name__)

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0
STEADY_SECONDS = 60.0
END_SECONDS = 3.0
TAIL_BYTES = 2_000


class Phase(Enum):
    """Where the engine is on its way to serving."""

    STOPPED = "stopped"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    CRASHED = "crashed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A phase and how long it has lasted, for health and status."""

    phase: Phase
    seconds: float


def retry_delay(crashes: int) -> float:
    """Seconds to wait before the start that follows this many crashes in a row."""
    return float(min(FIRST_RETRY_SECONDS * 2 ** (crashes - 1), LONGEST_RETRY_SECONDS))


class EngineProcess:
    """Owns the child. ``warm`` is awaited after each load, before the engine counts as ready."""

    def __init__(
        self,
        options: Options,
        *,
        tasks: Tasks,
        clock: Clock,
        warm: Callable[[], Awaitable[None]],
        command: tuple[str, ...] = (sys.executable, "-m", "llm_svc.engine"),
    ) -> None:
        self._options = options
        self._tasks = tasks
        self._clock = clock
        self._warm = warm
        self._command = command
        self._child: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._phase = Phase.STOPPED
        self._since = clock.monotonic()

    @property
    def progress(self) -> Progress:
        """The present phase."""
        return Progress(phase=self._phase, seconds=self._clock.monotonic() - self._since)

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        return self._child.pid if self._child else None

    def require_ready(self) -> None:
        """Raise ModelLoading or EngineCrashed unless requests can be served now."""
        if self._phase is Phase.CRASHED:
            raise EngineCrashed
        if self._phase is not Phase.READY:
            raise ModelLoading(self._phase.value)

    async def wait_for(self, *phases: Phase) -> Phase:
        """Return as soon as the engine is in one of the phases."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._phase in phases)
            return self._phase

    async def start(self) -> None:
        """Begin in the background; returns at once."""
        if self._supervisor is None:
            self._supervisor = self._tasks.spawn("engine", self._supervise())

    async def close(self) -> None:
        """End the child, gently then firmly, and return when it is gone."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        await self._move(Phase.STOPPED)

    async def _supervise(self) -> None:
        crashes = 0
        while True:
            await self._move(Phase.LOADING)
            began = self._clock.monotonic()
            await self._live_once()
            steady = self._clock.monotonic() - began > STEADY_SECONDS
            crashes = 1 if steady else crashes + 1
            await self._move(Phase.CRASHED)
            await self._clock.sleep(retry_delay(crashes))

    async def _live_once(self) -> None:
        """One life of the child, from its start until it ends."""
        Path(self._options.socket).unlink(missing_ok=True)
        arguments = msgspec.json.encode(self._options).decode()
        child = await asyncio.create_subprocess_exec(
            *self._command, arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment()
        )
        self._child = child
        tail = self._tasks.spawn("engine stderr", _tail(child))
        try:
            if await _says_ready(child):
                await self._move(Phase.WARMING)
                await self._warm()
                await self._move(Phase.READY)
            status = await child.wait()
            log.error("engine ended", status=status, said=(await tail).decode(errors="replace"))
        finally:
            await asyncio.shield(_end(child))
            tail.cancel()
            self._child = None

    async def _move(self, phase: Phase) -> None:
        async with self._changed:
            self._phase, self._since = phase, self._clock.monotonic()
            self._changed.notify_all()


def _environment() -> dict[str, str]:
    """Only what the child needs: it sees none of our keys. Spinning threads would starve the other rooms."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_WAIT_POLICY": "passive"}


async def _says_ready(child: Process) -> bool:
    assert child.stdout is not None
    async for line in child.stdout:
        if line == READY:
            return True
    return False


async def _tail(child: Process) -> bytes:
    """Read stderr to its end so that the child never blocks on it; keep the last bytes."""
    assert child.stderr is not None
    tail = b""
    while data := await child.stderr.read(4096):
        tail = (tail + data)[-TAIL_BYTES:]
    return tail


async def _end(child: Process) -> None:
    if child.returncode is not None:
        return
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(END_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
