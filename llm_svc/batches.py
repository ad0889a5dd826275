"""Several one-step requests at once, each with its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from chassis.errors import ServiceError
from chassis.tasks import Tasks
from llm_svc.events import StepDone, StepFailed
from llm_svc.frames import Frame, Start
from llm_svc.generation import Part, ReasoningDelta, TextDelta, ToolCall
from llm_svc.said import NOTHING, Said
from llm_svc.steps import Runs

AT_ONCE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one request came to: what was said, as far as it came, and how it ended."""

    parts: tuple[Part, ...]
    end: StepDone | StepFailed


class Batches:
    """Runs requests over the same runs as every stream, a few at once."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def run(self, starts: Sequence[Start]) -> list[Outcome]:
        """The outcomes, in the order of the requests. What refuses one request fails that one alone."""
        places = asyncio.Semaphore(AT_ONCE)
        async with Tasks() as tasks:
            running = [tasks.spawn("batch item", self._one(start, places)) for start in starts]
            return await asyncio.gather(*running)

    async def _one(self, start: Start, places: asyncio.Semaphore) -> Outcome:
        said = Said()
        end: StepDone | StepFailed | None = None
        async with places, aclosing(self._runs.serve(_only(start))) as events:
            try:
                async for event in events:
                    match event:
                        case TextDelta() | ReasoningDelta() | ToolCall():
                            said.hear(event)
                        case StepDone() | StepFailed():
                            end = event
            except ServiceError as refused:
                end = StepFailed(error=refused, usage=NOTHING, cost=0)
        assert end is not None  # a run that was not refused ends with one of the two
        return Outcome(parts=said.parts(), end=end)


async def _only(start: Start) -> AsyncIterator[Frame]:
    yield start
