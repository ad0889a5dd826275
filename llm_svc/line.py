"""What a run has to tell and its caller has not yet taken."""

from __future__ import annotations

import asyncio
from collections import deque

from chassis.clock import Clock
from llm_svc.events import Event
from llm_svc.generation import Activity, Doing, ReasoningDelta, TextDelta

PROGRESS_SECONDS = 10.0
_ROOM = 32  # events that may wait before the provider is held back
_JOINED = 8_192  # characters of one joined delta


class Line:
    """The way to the caller, with one reader, and a sign of life when nothing was said for a while.

    A text delta joins the one that waits before it; nothing waits for a timer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._closed = False
        self._spoke = clock.monotonic()
        self.doing = Doing(Activity.WORKING)

    async def say(self, event: Event) -> None:
        """Add an event; waits while the caller is far behind."""
        while len(self._waiting) >= _ROOM:
            self._emptied.clear()
            await self._emptied.wait()
        joined = _joined(self._waiting[-1], event) if self._waiting else None
        if joined is None:
            self._waiting.append(event)
        else:
            self._waiting[-1] = joined
        self._spoke = self._clock.monotonic()
        self._filled.set()

    def close(self) -> None:
        """Nothing more will be said."""
        self._closed = True
        self._filled.set()

    async def take(self) -> Event | None:
        """The next event; None when there is none any more."""
        while not self._waiting:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        self._emptied.set()
        return self._waiting.popleft()

    async def keep_alive(self) -> None:
        """Never returns: says what is being done when nothing else was said for 10 s."""
        while True:
            quiet = self._clock.monotonic() - self._spoke
            if quiet >= PROGRESS_SECONDS:
                await self.say(self.doing)
            else:
                await self._clock.sleep(PROGRESS_SECONDS - quiet)


def _joined(waiting: Event, event: Event) -> Event | None:
    match waiting, event:
        case TextDelta(first), TextDelta(second):
            return TextDelta(first + second) if len(first) < _JOINED else None
        case ReasoningDelta(first, b""), ReasoningDelta(second, b""):
            return ReasoningDelta(first + second) if len(first) < _JOINED else None
        case _:
            return None
