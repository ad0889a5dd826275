"""Keeps one room running: starts it, waits until it serves, starts it again when it dies, ends it with all
it started.

Each room leads a session of its own, so a terminal's Ctrl-C reaches only the supervisor, and a room's
whole process group is swept when it ends.
"""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesh.errors import RoomFailed
from mesh.logs import LastLines, Lines, LineSink
from mesh.restarts import Pace, Restart, Restarts
from mesh.rooms import Readiness, Room

OWN = "mesh"  # the name under which the supervisor itself writes
_LEASH = str(Path(__file__).with_name("leash.py"))
_PROBE_EVERY = 0.05
_READ = 64 * 1024
_LAST_WORDS = 1.0  # seconds for output still in the pipe when a room has ended

Probe = Callable[[Readiness], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the supervisor waits. Seconds."""

    ready: float = 60.0  # from a room's start until it serves
    grace: float = 25.0  # from `stop` until what is left is killed
    first_tries: int = 3  # crashes before the first readiness after which the start is given up
    pace: Pace = field(default_factory=Pace)


class Keeper:
    """Keeps one room running until told to stop."""

    def __init__(
        self,
        room: Room,
        probe: Probe,
        sink: LineSink,
        patience: Patience,
        failed: Callable[[RoomFailed], None],
    ) -> None:
        self.room = room
        self.ready = asyncio.Event()
        self.last = LastLines()
        self.process: Process | None = None
        self.restarts = 0
        self._probe, self._sink, self._patience, self._failed = probe, sink, patience, failed
        self._stopping = False
        self._pause: asyncio.Timeout | None = None
        self._policy = Restarts(pace=patience.pace)
        self._served = False

    async def keep(self, needs: Sequence["Keeper"]) -> None:
        """Start the room once those it needs are ready, and again whenever it dies, until `stop`.

        Reports the failure and returns when it never became ready.
        """
        for other in needs:
            await self._unless_stopping(other.ready.wait())
        while not self._stopping:
            started = time.monotonic()
            code = await self._live()
            if self._stopping:
                return
            restart = self._policy.crashed(uptime=time.monotonic() - started)
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            if not self._served and restart.crashes >= self._patience.first_tries:
                self._give_up(how, restart)
                return
            self._tell_crash(how, restart)
            self.restarts += 1
            await self._unless_stopping(asyncio.sleep(restart.delay))

    def stop(self) -> None:
        """Ask the room to drain, and start it no more."""
        self._cease()
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()

    def kill(self) -> None:
        """End the room and everything in its process group at once, and start it no more."""
        self._cease()
        if self.process is not None:
            _sweep(self.process.pid)

    async def _live(self) -> int:
        """Run the room once, from start to end; answer its exit code (negative: the signal that ended it)."""
        process, output = await _spawn(self.room)
        self.process = process
        try:
            if self._stopping:
                return 0
            async with asyncio.TaskGroup() as tasks:
                pump = tasks.create_task(self._pump(output))
                readiness = tasks.create_task(self._await_ready(process))
                code = await process.wait()
                readiness.cancel()
                _sweep(process.pid)
                await asyncio.wait((pump,), timeout=_LAST_WORDS)
                pump.cancel()
            return code
        finally:
            _sweep(process.pid)
            self.ready.clear()
            self.process = None
            await process.wait()

    async def _pump(self, output: asyncio.StreamReader) -> None:
        lines = Lines()
        while chunk := await output.read(_READ):
            self._write(lines.feed(chunk))
        self._write(lines.end())

    async def _await_ready(self, process: Process) -> None:
        """Probe until the room serves; one that takes too long is killed: a crash like others."""
        try:
            async with asyncio.timeout(self._patience.ready):
                while not await self._probe(self.room.readiness):  # noqa: ASYNC110  # another process' state
                    await asyncio.sleep(_PROBE_EVERY)
        except TimeoutError:
            self._say(f"{self.room.name} did not get ready within {self._patience.ready:g} s: ending it.")
            _sweep(process.pid)
            return
        self._served = True
        self.ready.set()

    async def _unless_stopping(self, wait: Awaitable[object]) -> None:
        """Wait, but no longer than until `stop` or `kill`."""
        try:
            async with asyncio.timeout(0 if self._stopping else None) as self._pause:
                await wait
        except TimeoutError:
            pass
        finally:
            self._pause = None

    def _cease(self) -> None:
        self._stopping = True
        if self._pause is not None:
            self._pause.reschedule(asyncio.get_running_loop().time())

    def _give_up(self, how: str, restart: Restart) -> None:
        name = self.room.name
        self._failed(
            RoomFailed(
                f"{name} {how} {restart.crashes} times and never got ready. Its last lines:{self.last.told()}",
                f"\nRead them in logs/{name}.log in the data folder, and run `mesh doctor`.",
            )
        )

    def _tell_crash(self, how: str, restart: Restart) -> None:
        self._say(f"{self.room.name} {how}; starting it again in {restart.delay:g} s.")
        if restart.looping:
            self._say(
                f"{self.room.name} keeps crashing ({restart.crashes} times in a row). The other rooms go on; "
                f"`mesh doctor` and logs/{self.room.name}.log may say why."
            )

    def _write(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.last.add(line)
            self._sink.write(self.room.name, line)

    def _say(self, line: str) -> None:
        self._sink.write(OWN, line)


async def _spawn(room: Room) -> tuple[Process, asyncio.StreamReader]:
    """Start the room on its leash and answer its process and its output (stdout and stderr in one)."""
    reading, writing = os.pipe()
    output = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _LEASH, str(os.getpid())),
            *room.command,
            env=dict(room.environment),
            stdin=DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
    finally:
        os.close(writing)
    return process, output


def _sweep(group: int) -> None:
    """Kill what is left of a process group; a room's own children must not outlive it."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
