"""What is kept of people whose accounts ended goes: answers at once, what engines have in memory by a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence


class Forgetting:
    """Hears which accounts have ended. `answers` is told the accounts; an `engine` forgets everybody's words."""

    def __init__(
        self,
        answers: Callable[[Iterable[str]], None],
        engines: Sequence[Callable[[], Awaitable[None]]],
    ) -> None:
        self._answers = answers
        self._engines = engines
        self._known: frozenset[str] | None = None
        self._due = asyncio.Event()

    def ended(self, accounts: Iterable[str]) -> None:
        """These accounts have ended. What was known before anybody could ask is in no engine."""
        gone = frozenset(accounts)
        self._answers(gone)
        if self._known is not None and not gone <= self._known:
            self._due.set()
        self._known = gone | (self._known or frozenset())

    async def run(self) -> None:
        """Let the engines forget whenever an account has ended, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            for forget in self._engines:
                await forget()
