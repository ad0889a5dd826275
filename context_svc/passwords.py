"""Passwords: kept only as Argon2id hashes, made in a small pool of threads with a short queue."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from context_svc.common_passwords import is_common
from context_svc.errors import HashingBusy, PasswordWeak

T = TypeVar("T")
SHORTEST, LONGEST = 15, 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one hash costs: memory in KiB, passes over it, lanes. About 46 ms here."""

    memory_kib: int = 19 * 1024
    passes: int = 2
    lanes: int = 1


class Passwords:
    """Makes and checks password hashes; closes its threads when its block ends."""

    def __init__(self, cost: Cost | None = None, *, threads: int = 2, queue: int = 32) -> None:
        cost = cost or Cost()
        self._hasher = PasswordHasher(
            time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._places = threads + queue
        self._nobodys = self._hasher.hash("the password of nobody")

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises PasswordWeak and HashingBusy."""
        normal = _normal(password)
        if not SHORTEST <= len(normal) <= LONGEST or is_common(normal):
            raise PasswordWeak
        return await self._run(lambda: self._hasher.hash(normal))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether it is the password of `stored`; for None no, just as slowly. Raises HashingBusy."""
        normal = _normal(password)
        matches = await self._run(lambda: self._matches(normal, stored or self._nobodys))
        return matches and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made at another cost than today's."""
        return self._hasher.check_needs_rehash(stored)

    async def rehash(self, password: str) -> str:
        """A new hash of a password that was just verified. Raises HashingBusy."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    def _matches(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._places == 0:
            raise HashingBusy("the queue for passwords is full", quota="passwords")
        self._places -= 1
        loop = asyncio.get_running_loop()
        job = self._pool.submit(work)
        # The place is the thread's, not the caller's: who gives up leaves the work running.
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free))
        return await asyncio.wrap_future(job)

    def _free(self) -> None:
        self._places += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password)
