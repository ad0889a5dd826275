"""What was asked a short while ago, kept so that nobody outside is asked twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Answers by question, each for `seconds`, the `most` newest ones. A failure is never kept."""

    def __init__(self, seconds: float, most: int = 256) -> None:
        self._life_us = round(seconds * 1e6)
        self._most = most
        self._answers: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    async def get(self, question: Hashable, now_us: int, ask: Callable[[], Awaitable[T]]) -> tuple[T, int]:
        """The answer, and when it was got, in microseconds since 1970. Raises what `ask` raises."""
        found = self._answers.get(question)
        if found is not None and 0 <= now_us - found[1] < self._life_us:
            return found
        answer = (await ask(), now_us)
        self._answers[question] = answer
        self._answers.move_to_end(question)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return answer
