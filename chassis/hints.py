"""What other processes of one store may have changed: a hint to look again, never the news itself.

An aggregate falls into one of 256 buckets. A hint is the map of the buckets that a batch touched: small whatever was
written, wrong only in that it sometimes says too much. A hint can be lost; who depends on it also looks now and then.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

BUCKETS = 256
QUIET = 15.0  # seconds without a hint after which everything may have changed


def bucket(aggregate: str) -> int:
    """The bucket of an aggregate, the same in every process."""
    return hashlib.blake2s(aggregate.encode(), digest_size=1).digest()[0]


@dataclass(frozen=True, slots=True)
class Touched:
    """Buckets in which something may have changed, as the bits of a number."""

    bits: int

    @classmethod
    def of(cls, aggregates: Iterable[str]) -> Touched:
        """The hint for these aggregates."""
        bits = 0
        for aggregate in aggregates:
            bits |= 1 << bucket(aggregate)
        return cls(bits)

    @classmethod
    def read(cls, text: str) -> Touched:
        """The hint that `text` spells. Raises ValueError."""
        return cls(int(text, 16) & EVERYTHING.bits)

    def text(self) -> str:
        """64 hex digits."""
        return f"{self.bits:064x}"

    def concerns(self, aggregate: str) -> bool:
        """Whether that aggregate may have changed."""
        return bool(self.bits >> bucket(aggregate) & 1)

    @property
    def everything(self) -> bool:
        """Whether nothing is known but that anything may have changed."""
        return self.bits == EVERYTHING.bits

    def __or__(self, other: Touched) -> Touched:
        return Touched(self.bits | other.bits)


NOTHING = Touched(0)
EVERYTHING = Touched((1 << BUCKETS) - 1)


class Inbox:
    """Hints that wait for one listener, merged while it is busy."""

    def __init__(self, quiet: float = QUIET) -> None:
        self._quiet = quiet
        self._waiting = NOTHING
        self._some = asyncio.Event()

    def put(self, touched: Touched) -> None:
        """One more."""
        self._waiting |= touched
        self._some.set()

    async def hints(self) -> AsyncIterator[Touched]:
        """What waits, again and again; EVERYTHING after a time of silence."""
        while True:
            try:
                async with asyncio.timeout(self._quiet):
                    await self._some.wait()
            except TimeoutError:
                yield EVERYTHING
                continue
            waiting, self._waiting = self._waiting, NOTHING
            self._some.clear()
            yield waiting
