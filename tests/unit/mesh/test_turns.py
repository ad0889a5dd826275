from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from chassis.testing import FakeClock
from mesh import answer
from mesh.errors import CallFailed
from mesh.turns import Retry, follow

QUESTION = answer.Question(id="q", session="s", text="hi")
DOWN = CallFailed("down", "", reason=None, passing=True)


class Ticking(FakeClock):
    """Sleeping passes at once, and moves the time."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.advance(timedelta(seconds=seconds))


@dataclass
class Streams:
    """Each call of `send` plays the next script: sequences, and an error to end with."""

    scripts: list[tuple[list[int], CallFailed | None]]
    ids: list[str] = field(default_factory=list)

    async def send(
        self, question: answer.Question | answer.Again, *, documented: bool
    ) -> AsyncIterator[answer.Event]:
        self.ids.append(question.id)
        numbers, failure = self.scripts.pop(0) if self.scripts else ([], DOWN)
        for number in numbers:
            last = answer.Finished(text="", model="")
            body = last if number == 9 else answer.Said(text=str(number))
            yield answer.Event(sequence=number, turn="t", body=body)
        if failure is not None:
            raise failure


async def followed(streams: Streams, clock: Ticking) -> list[int]:
    return [
        event.sequence
        async for event in follow(streams, QUESTION, clock, retry=Retry(first=1, cap=4, patience=20))
    ]


@pytest.mark.requirement("RUN-3")
async def test_each_event_comes_once_and_in_order_over_many_streams() -> None:
    streams = Streams([([1, 2], DOWN), ([1, 2, 3], None), ([], DOWN), ([1, 2, 3, 4, 9], None)])

    assert await followed(streams, Ticking()) == [1, 2, 3, 4, 9]
    assert streams.ids == ["q"] * 4


@pytest.mark.requirement("RUN-3")
async def test_the_wait_doubles_up_to_its_cap_and_begins_anew_after_an_event() -> None:
    clock = Ticking()
    down: tuple[list[int], CallFailed | None] = ([], DOWN)
    await followed(Streams([down, down, down, down, ([1], DOWN), ([1, 9], None)]), clock)

    assert clock.slept == [1, 2, 4, 4, 1]


@pytest.mark.requirement("RUN-3")
async def test_silence_beyond_patience_is_told() -> None:
    clock = Ticking()
    with pytest.raises(CallFailed, match="down"):
        await followed(Streams([]), clock)

    assert 20 < sum(clock.slept) <= 24


@pytest.mark.requirement("RUN-3")
async def test_a_refusal_is_not_tried_again() -> None:
    streams = Streams([([1], CallFailed("no", "", reason="SESSION_ENDED", passing=False))])

    with pytest.raises(CallFailed, match="no"):
        await followed(streams, Ticking())

    assert len(streams.ids) == 1
