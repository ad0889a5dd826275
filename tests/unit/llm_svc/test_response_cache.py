"""Kept answers: of whom, for which request, for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from chassis.testing import FakeClock
from llm_svc.catalogue import Catalogue
from llm_svc.errors import ProviderFailed
from llm_svc.events import Event, Started, StepDone
from llm_svc.frames import Frame, Start
from llm_svc.generation import (
    Finished,
    FinishReason,
    Parameters,
    Part,
    ReasoningDelta,
    TextDelta,
    TextPart,
    ToolCall,
    Usage,
)
from llm_svc.providers.provider import Price
from llm_svc.response_cache import Forgetful, ResponseCache
from llm_svc.steps import Runs
from tests.unit.llm_svc.test_substitutes import Known
from tests.unit.llm_svc.windows import asking, user

pytestmark = pytest.mark.requirement("LLM-8")
ANSWER: tuple[Part, ...] = (TextPart("391"),)


def start(text: str = "17*23?", account: str = "ann", epoch: int = 1, **more: object) -> Start:
    return Start(
        request=replace(asking(user(text), model="first"), **more),  # type: ignore[arg-type]
        cache_account=account,
        cache_epoch=epoch,
    )


def filled(clock: FakeClock | None = None) -> ResponseCache:
    cache = ResponseCache(clock or FakeClock(), max_bytes=1 << 20)
    cache.keep(start(), "first", ANSWER)
    return cache


def test_the_exact_request_of_the_same_account_is_answered() -> None:
    cache = filled()
    assert cache.find(start(), "first") == ANSWER
    assert cache.find(start(session="another"), "first") == ANSWER


@pytest.mark.parametrize(
    "other",
    [
        start(account="bob"),
        start(account=""),
        start(epoch=2),
        start("17*24?"),
        start(parameters=Parameters(temperature=0.1)),
    ],
)
def test_anything_else_is_not(other: Start) -> None:
    assert filled().find(other, "first") is None


def test_another_model_is_not() -> None:
    assert filled().find(start(), "second") is None


async def test_after_an_hour_it_is_gone() -> None:
    clock = FakeClock()
    cache = filled(clock)
    await clock.advance(timedelta(minutes=59))
    assert cache.find(start(), "first") == ANSWER
    await clock.advance(timedelta(minutes=1))
    assert cache.find(start(), "first") is None
    assert len(cache) == 0


def test_an_account_that_ended_is_forgotten_when_the_feed_names_it() -> None:
    cache = filled()
    cache.keep(start(account="bob"), "first", ANSWER)
    Forgetful(FakeClock(), cache.forget).replace(sign_ins=(), accounts=["ann"])
    assert cache.find(start(), "first") is None
    assert cache.find(start(account="bob"), "first") == ANSWER


def test_memory_is_bounded_and_what_was_not_used_for_longest_goes_first() -> None:
    cache = ResponseCache(FakeClock(), max_bytes=4_000)
    for number in range(20):
        cache.keep(start(str(number)), "first", (TextPart("x" * 200),))
        cache.find(start("0"), "first")
    assert len(cache) <= 4_000 // 256
    assert cache.find(start("0"), "first") is not None
    assert cache.find(start("1"), "first") is None
    cache.keep(start("big"), "first", (TextPart("x" * 3_000),))
    assert cache.find(start("big"), "first") is None


def test_an_answer_with_a_call_is_not_kept() -> None:
    cache = ResponseCache(FakeClock(), max_bytes=1 << 20)
    cache.keep(start(), "first", (ToolCall(id="c", name="n", arguments="{}"),))
    assert len(cache) == 0


class Room:
    def __init__(self, *calls: list[object]) -> None:
        price = Price(input=1_000_000, output=1_000_000, looked_up=0)
        self.provider = Known("first", *calls, price=price)  # type: ignore[arg-type]
        clock = FakeClock()
        self.runs = Runs(Catalogue([self.provider]), clock, cache=ResponseCache(clock, max_bytes=1 << 20))

    async def ask(self, frame: Start) -> list[Event]:
        async def frames() -> AsyncIterator[Frame]:
            yield frame

        return [event async for event in self.runs.serve(frames())]


SPOKEN: list[object] = [
    ReasoningDelta("hm"),
    TextDelta("391"),
    Usage(input_tokens=3, output_tokens=2),
    Finished(FinishReason.STOP),
]


async def test_the_second_time_nothing_is_asked_and_nothing_is_charged() -> None:
    room = Room(SPOKEN)
    first, second = await room.ask(start()), await room.ask(start())
    assert room.provider.asked == 1
    assert [e for e in first if isinstance(e, TextDelta | ReasoningDelta)] == [
        e for e in second if isinstance(e, TextDelta | ReasoningDelta)
    ]
    assert isinstance(second[0], Started)
    assert second[0].from_cache
    assert isinstance(first[0], Started)
    assert not first[0].from_cache
    assert isinstance(first[-1], StepDone)
    assert isinstance(second[-1], StepDone)
    assert (first[-1].cost, second[-1].cost) == (5, 0)


@pytest.mark.parametrize(
    "spoken",
    [
        [TextDelta("3"), ProviderFailed()],
        [TextDelta("3"), Finished(FinishReason.LENGTH)],
        [TextDelta("no"), Finished(FinishReason.CONTENT_FILTER)],
    ],
)
async def test_only_whole_answers_are_kept(spoken: list[object]) -> None:
    room = Room(spoken, SPOKEN)
    await room.ask(start())
    await room.ask(start())
    assert room.provider.asked == 2


async def test_who_did_not_ask_for_it_is_asked_for_anew() -> None:
    room = Room(SPOKEN, SPOKEN)
    await room.ask(start(account=""))
    await room.ask(start(account=""))
    assert room.provider.asked == 2
