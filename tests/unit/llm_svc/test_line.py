"""The way of a run's events to its caller."""

from __future__ import annotations

import asyncio

from chassis.testing import FakeClock
from llm_svc.events import Event
from llm_svc.generation import Activity, Doing, ReasoningDelta, TextDelta, ToolCall
from llm_svc.line import Line

CALL = ToolCall(id="c", name="clock", arguments="{}")


async def taken(line: Line) -> list[Event]:
    line.close()
    events: list[Event] = []
    while (event := await line.take()) is not None:
        events.append(event)
    return events


async def test_deltas_that_wait_are_joined_and_nothing_else_is() -> None:
    line = Line(FakeClock())
    said: list[Event] = [TextDelta("a"), TextDelta("b"), CALL, TextDelta("c"), ReasoningDelta("d"), CALL]
    for event in said:
        await line.say(event)
    assert await taken(line) == [TextDelta("ab"), *said[2:]]


async def test_thinking_with_a_providers_state_stays_apart() -> None:
    line = Line(FakeClock())
    said: list[Event] = [ReasoningDelta("a"), ReasoningDelta("b", b"s"), ReasoningDelta("c")]
    for event in said:
        await line.say(event)
    assert await taken(line) == said


async def test_a_provider_waits_while_the_caller_takes_nothing() -> None:
    line = Line(FakeClock())
    talking = asyncio.ensure_future(_talk(line))
    first = await line.take()
    assert first == Doing(Activity.WORKING)
    for _ in range(10):  # every turn of the loop lets it go on as far as it can
        await asyncio.sleep(0)
    assert not talking.done()
    talking.cancel()


async def _talk(line: Line) -> None:
    for _ in range(100):
        await line.say(Doing(Activity.WORKING))
