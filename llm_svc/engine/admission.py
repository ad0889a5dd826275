"""Who may use the engine now: a few at once, a short queue behind them, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from llm_svc.errors import EngineBusy


class Admission:
    """``places`` requests at once; up to ``queue`` wait in their order; the next is refused."""

    def __init__(self, *, places: int, queue: int) -> None:
        self._count = places
        self._places = asyncio.Semaphore(places)
        self._queue = queue
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether the next one would have to wait."""
        return self._places.locked()

    @asynccontextmanager
    async def all_places(self, patience: float) -> AsyncIterator[None]:
        """Hold every place inside the block: who has one now ends first, who comes later waits.

        After `patience` seconds the block begins all the same, whoever still has a place.
        """
        held = 0
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    for _ in range(self._count):
                        await self._places.acquire()
                        held += 1
            yield
        finally:
            for _ in range(held):
                self._places.release()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place inside the block. Raises EngineBusy when the queue is full."""
        if self._places.locked() and self._waiting >= self._queue:
            raise EngineBusy
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()
