"""Time, as something that is handed in: wall time in microseconds, a steady clock, and waiting."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What a room may know about time. `chassis.testing.FakeClock` is the other implementation."""

    def now_us(self) -> int:
        """Wall time in microseconds since 1970 UTC. May jump; for stamps, never for durations."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back. For durations and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock; zero or less yields once."""


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Wall time in microseconds since 1970 UTC."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Seconds of the machine's steady clock, the one asyncio's loops use."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait in real time."""
        await asyncio.sleep(max(0.0, seconds))
