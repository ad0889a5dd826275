"""What a turn has to tell and its reader has not yet taken."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator_svc.effects import (
    Cancelled,
    Emit,
    Fail,
    Finish,
    HostCall,
    ReasoningDelta,
    Receipt,
    Stage,
    Suspend,
    TextDelta,
)

_ROOM = 32  # frames that may wait before the model is held back
_JOINED = 8_192  # characters of one joined delta


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The turn is alive."""

    stage: Stage


Frame: TypeAlias = Emit | Receipt | HostCall | Suspend | Finish | Fail | Cancelled | Progress


class Outbox:
    """A queue with one reader. A delta joins the one that waits before it; nothing waits for a timer."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._closed = False

    def put(self, frame: Frame) -> None:
        """Add a frame. Never waits: those who make many ask for `room` first."""
        joined = _joined(self._frames[-1], frame) if self._frames else None
        if joined is None:
            self._frames.append(frame)
        else:
            self._frames[-1] = joined
        self._filled.set()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._filled.set()

    async def room(self) -> None:
        """Return when the reader is not far behind."""
        while len(self._frames) >= _ROOM:
            self._emptied.clear()
            await self._emptied.wait()

    async def take(self) -> Frame | None:
        """The next frame; None when there is none any more."""
        while not self._frames:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        self._emptied.set()
        return frame


def _joined(waiting: Frame, frame: Frame) -> Emit | None:
    match waiting, frame:
        case Emit(event=TextDelta(text=first)), Emit(event=TextDelta(text=second)):
            return Emit(event=TextDelta(text=first + second)) if len(first) < _JOINED else None
        case Emit(event=ReasoningDelta(text=first)), Emit(event=ReasoningDelta(text=second)):
            return Emit(event=ReasoningDelta(text=first + second)) if len(first) < _JOINED else None
        case _:
            return None
