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
from llm_svc.engine.options import READY, Options
from llm_svc.errors import EngineCrashed, ModelLoading

log = telemetry.logger(__name__)

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0
STEADY_SECONDS = 60.0
HOPELESS_CRASHES = 3
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
    """Owns the child.

    ``warm`` is awaited after each load, before the engine counts as ready; ``on_phase`` hears every change.
    """

    def __init__(
        self,
        options: Options,
        *,
        tasks: Tasks,
        clock: Clock,
        warm: Callable[[], Awaitable[None]],
        on_phase: Callable[[Phase], None] = lambda phase: None,
        command: tuple[str, ...] = (sys.executable, "-m", "llm_svc.engine"),
    ) -> None:
        self._options = options
        self._tasks = tasks
        self._clock = clock
        self._warm = warm
        self._on_phase = on_phase
        self._command = command
        self._child: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._phase = Phase.STOPPED
        self._crashes = 0
        self._renewing = False
        self._since = clock.monotonic()

    @property
    def progress(self) -> Progress:
        """The present phase."""
        return Progress(phase=self._phase, seconds=self._clock.monotonic() - self._since)

    @property
    def is_coming(self) -> bool:
        """Whether it makes sense to wait: it loads, or crashed not too often in a row."""
        crashed = self._phase is Phase.CRASHED and self._crashes < HOPELESS_CRASHES
        return crashed or self._phase in (Phase.LOADING, Phase.WARMING)

    @property
    def loaded(self) -> float:
        """How much of the model is in the child's memory, from 0 to 1; 0 where that cannot be seen."""
        if self._phase in (Phase.WARMING, Phase.READY):
            return 1.0
        return _loaded_fraction(self.pid, Path(self._options.model)) if self.pid else 0.0

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

    async def wait_ready(self, seconds: float) -> bool:
        """Return True as soon as the engine is ready, False after so many seconds."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                return await self._changed.wait_for(lambda: self._phase is Phase.READY)
        except TimeoutError:
            return False

    async def start(self) -> None:
        """Begin in the background; returns at once."""
        if self._supervisor is None:
            self._supervisor = self._tasks.spawn("engine", self._supervise())

    async def renew(self, seconds: float) -> bool:
        """End the child and wait for another one, whose memory is empty; False when it is not ready in that time."""
        child = self._child
        if child is not None:
            self._renewing = True
            await _end(child)
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._child is not child)
        return await self.wait_ready(seconds)

    async def close(self) -> None:
        """End the child, gently then firmly, and return when it is gone."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        await self._move(Phase.STOPPED)

    async def _supervise(self) -> None:
        while True:
            await self._move(Phase.LOADING)
            began = self._clock.monotonic()
            await self._live_once()
            if self._renewing:
                self._renewing = False
                continue
            steady = self._clock.monotonic() - began > STEADY_SECONDS
            self._crashes = 1 if steady else self._crashes + 1
            await self._move(Phase.CRASHED)
            await self._clock.sleep(retry_delay(self._crashes))

    async def _live_once(self) -> None:
        """One life of the child, from its start until it ends."""
        _make_room(Path(self._options.socket))
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
            said = (await tail).decode(errors="replace")
            if not self._renewing:
                log.error("engine ended", status=status, said=said)
        finally:
            await asyncio.shield(_end(child))
            tail.cancel()
            self._child = None

    async def _move(self, phase: Phase) -> None:
        async with self._changed:
            self._phase, self._since = phase, self._clock.monotonic()
            self._changed.notify_all()
        self._on_phase(phase)


def _make_room(socket: Path) -> None:
    socket.unlink(missing_ok=True)  # of a child that was killed


def _loaded_fraction(pid: int, model: Path) -> float:
    """Resident memory against the size of the file: the library itself reports no progress."""
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return min(resident / model.stat().st_size, 0.99)
    except (OSError, ValueError, IndexError):
        return 0.0


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
