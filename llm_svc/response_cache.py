"""Answers kept for those who asked for it: in memory, an hour at most, each account's for itself."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import msgspec

from chassis.auth import Revocations
from chassis.clock import Clock
from llm_svc.frames import Start
from llm_svc.generation import Part, ReasoningPart, TextPart

LIFE_SECONDS = 3600.0
_OVERHEAD = 256  # bytes an entry takes beside its text


@dataclass(frozen=True, slots=True)
class _Entry:
    parts: tuple[Part, ...]
    ends: float
    size: int


class ResponseCache:
    """Whole answers by account, epoch and exact request; the ones not used for longest go first.

    An answer that asked for an action is not kept: the world may have moved.
    """

    def __init__(self, clock: Clock, *, max_bytes: int) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._size = 0
        self._entries: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()

    def find(self, start: Start, model: str) -> tuple[Part, ...] | None:
        """The parts of the kept answer of this model, if there is one."""
        if not start.cache_account:
            return None
        place = (start.cache_account, _digest(start, model))
        entry = self._entries.get(place)
        if entry is None:
            return None
        if entry.ends <= self._clock.monotonic():
            self._drop(place)
            return None
        self._entries.move_to_end(place)
        return entry.parts

    def keep(self, start: Start, model: str, parts: tuple[Part, ...]) -> None:
        """Keep an answer, if its account wants that."""
        texts = [part for part in parts if isinstance(part, TextPart | ReasoningPart)]
        size = _OVERHEAD + sum(len(part.text.encode()) for part in texts)
        if not start.cache_account or len(texts) != len(parts) or size > self._max_bytes // 4:
            return
        place = (start.cache_account, _digest(start, model))
        self._drop(place)
        self._entries[place] = _Entry(parts, self._clock.monotonic() + LIFE_SECONDS, size)
        self._size += size
        while self._size > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def forget(self, accounts: Iterable[str]) -> None:
        """Drop everything of these accounts."""
        gone = frozenset(accounts)
        for place in [place for place in self._entries if place[0] in gone]:
            self._drop(place)

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, place: tuple[str, bytes]) -> None:
        entry = self._entries.pop(place, None)
        self._size -= entry.size if entry else 0


class Forgetful(Revocations):
    """Revocations that say of every ended account that what is kept of it must go."""

    def __init__(self, clock: Clock, forget: Callable[[Iterable[str]], None]) -> None:
        super().__init__(clock)
        self._forget = forget

    def replace(self, *, sign_ins: Iterable[str], accounts: Iterable[str]) -> None:
        """See Revocations."""
        ended = tuple(accounts)
        self._forget(ended)
        super().replace(sign_ins=sign_ins, accounts=ended)

    def revoke(self, *, sign_ins: Iterable[str] = (), accounts: Iterable[str] = ()) -> None:
        """See Revocations."""
        ended = tuple(accounts)
        self._forget(ended)
        super().revoke(sign_ins=sign_ins, accounts=ended)


def _digest(start: Start, model: str) -> bytes:
    """Of everything that the answer depends on; the model by its name, who asks for the prefix does not matter."""
    asked = replace(start.request, model=model, session="")
    return hashlib.sha256(msgspec.msgpack.encode((start.cache_epoch, asked))).digest()
