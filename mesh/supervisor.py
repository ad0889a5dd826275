"""Starts the rooms together, keeps them running, and ends everything it started.

`stop` tells the rooms to drain in the order they depend on each other, all within one grace period, and
kills what is left; a second `stop`, or `kill`, skips the waiting. How one room is kept is keeper.py's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mesh.errors import RoomFailed
from mesh.keeper import OWN, Keeper, Patience, Probe
from mesh.logs import LineSink
from mesh.rooms import Room, waves


class Supervisor:
    """Runs rooms together. `run` returns when `stop` was called and everything it started has ended."""

    def __init__(
        self, rooms: Sequence[Room], *, probe: Probe, sink: LineSink, patience: Patience | None = None
    ) -> None:
        self._patience = patience or Patience()
        self._sink = sink
        self._rooms = tuple(rooms)
        self._keepers = {room.name: Keeper(room, probe, sink, self._patience, self._fail) for room in rooms}
        self._stop = asyncio.Event()
        self._failure: RoomFailed | None = None

    async def run(self, started: Callable[[], Awaitable[None]]) -> None:
        """Start every room, await `started` when all are ready, and go on until `stop`.

        Raises RoomFailed when a room never got ready, after draining the others.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for keeper in self._keepers.values():
                    tasks.create_task(keeper.keep([self._keepers[name] for name in keeper.room.needs]))
                announcing = tasks.create_task(self._announce(started))
                await self._stop.wait()
                announcing.cancel()
                await self._drain()
        finally:
            self.kill()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Drain and end. A second call does not wait any longer."""
        if self._stop.is_set():
            self.kill()
        self._stop.set()

    def kill(self) -> None:
        """End everything at once."""
        for keeper in self._keepers.values():
            keeper.kill()

    def processes(self) -> dict[str, int]:
        """Answer the process id of each room that runs now."""
        return {
            name: keeper.process.pid for name, keeper in self._keepers.items() if keeper.process is not None
        }

    def _fail(self, failure: RoomFailed) -> None:
        self._failure = failure
        self._stop.set()

    async def _announce(self, started: Callable[[], Awaitable[None]]) -> None:
        for keeper in self._keepers.values():
            await keeper.ready.wait()
        await started()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._patience.grace):
                for wave in waves(self._rooms):
                    await self._drain_wave([self._keepers[room.name] for room in wave])
        except TimeoutError:
            left = ", ".join(self.processes())
            self._sink.write(OWN, f"{left} did not end within {self._patience.grace:g} s: killed.")
            self.kill()

    async def _drain_wave(self, keepers: Sequence[Keeper]) -> None:
        for keeper in keepers:
            keeper.stop()
        await asyncio.gather(*(k.process.wait() for k in keepers if k.process is not None))
