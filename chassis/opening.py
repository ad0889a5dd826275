"""The first bytes of a server stream: at once with its first message, and within a moment without one.

A quiet stream whose headers wait for a message holds a browser's fetch open without an answer. A stream
that fails at its first step should still answer with a bare status, which a JSON gateway can turn into an
error body: it cannot once headers are out. So headers go with the first message, or after `PATIENCE`,
whichever comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from chassis.tasks import Tasks

PATIENCE = 0.2  # seconds: checks of a busy room take less, and nobody notices so long a silence


class Opening:
    """Sends a stream's initial metadata exactly once."""

    def __init__(self, send: Callable[[], Awaitable[None]], tasks: Tasks) -> None:
        self._send = send
        self._tasks = tasks
        self._lock = asyncio.Lock()
        self._late: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.opened = False

    async def open(self) -> None:
        """Return when the headers are out."""
        async with self._lock:
            if not self.opened:
                await self._send()
                self.opened = True
                self._disarm()

    async def __aenter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disarm()
        if self._late is not None:
            await asyncio.wait((self._late,))
        if kind is None:
            await self.open()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if not self.opened:
            self._late = self._tasks.spawn("open a quiet stream", self.open())
