"""Background tasks with an owner: the only place that starts one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from chassis import telemetry

log = telemetry.logger(__name__)
T = TypeVar("T")
_AGAIN = 1.0  # seconds after which a task that swallowed its cancellation is cancelled once more


class Tasks:
    """Owns the tasks it spawned: keeps them alive, logs their crashes, ends them all when it is closed."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(
        self, name: str, coroutine: Coroutine[Any, Any, T], *, heard: tuple[type[Exception], ...] = ()
    ) -> asyncio.Task[T]:
        """Run `coroutine` in the background. Raises RuntimeError when this owner is closed.

        Failures of the kinds that are `heard` are the business of whoever awaits the task; any other is a crash.
        """
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"no new task on a closed owner: {name}")
        task = asyncio.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(partial(self._ended, heard))
        return task

    async def whole(self, name: str, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await `coroutine`, which runs to its end also when its waiter is cancelled.

        For what must follow a commit: a waiter that is gone leaves the commit standing. What it raises goes to the
        waiter, or to the log when nobody waits any more. Raises RuntimeError when this owner is closed.
        """
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"no new task on a closed owner: {name}")
        task = asyncio.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(partial(self._ended, ()))
            raise

    def __len__(self) -> int:
        return len(self._running)

    async def aclose(self) -> None:
        """Cancel every task and wait until each has ended; one that missed it is told again. Safe to call twice."""
        self._closed = True
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=_AGAIN)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _ended(self, heard: tuple[type[Exception], ...], task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, heard):
            log.error("background task crashed", error=error, task=task.get_name())


async def acquired(coroutine: Coroutine[Any, Any, T], release: Callable[[T], Awaitable[None]]) -> T:
    """What `coroutine` makes. A waiter that is cancelled meanwhile waits for it, and has it released."""
    making = asyncio.create_task(coroutine)
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        while not making.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((making,))
        if not making.cancelled() and making.exception() is None:
            await release(making.result())
        raise
