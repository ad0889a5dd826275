"""Asking again, and leaving a failing provider alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import pytest

from chassis.errors import ServiceError
from chassis.testing import FakeClock
from llm_svc.attempts import Attempts, pause
from llm_svc.breaker import FAILURES, OPEN_SECONDS, Breaker
from llm_svc.errors import (
    ContextTooLong,
    EngineBusy,
    ProviderFailed,
    ProviderGarbage,
    ProviderLimited,
    ProviderRefused,
    ProviderTimeout,
)
from llm_svc.generation import Activity, Delta, Doing, Finished, FinishReason, Request, TextDelta, TokenCount
from llm_svc.providers.provider import Model
from tests.unit.llm_svc.windows import asking, user

pytestmark = pytest.mark.requirement("LLM-4")
ASKED = asking(user("hi"))
STOP = Finished(FinishReason.STOP)


class Moody:
    """A provider that does on each call what the test lined up for it."""

    name = "moody"

    def __init__(self, *calls: Sequence[Delta | ServiceError]) -> None:
        self._calls = list(calls)
        self.asked = 0
        self.closed = 0

    async def models(self) -> Sequence[Model]:
        return ()

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked += 1
        try:
            for step in self._calls.pop(0):
                if isinstance(step, ServiceError):
                    raise step
                yield step
        finally:
            self.closed += 1

    async def count(self, request: Request) -> TokenCount:
        return TokenCount(tokens=1, estimated=True)

    async def close(self) -> None:
        return None


async def heard(attempts: Attempts, provider: Moody) -> list[Delta]:
    return [delta async for delta in attempts.generate(provider, ASKED)]


@pytest.mark.parametrize(
    ("failure", "tried", "seconds"),
    [
        (ProviderFailed(), 1, 0.25),
        (ProviderFailed(), 2, 1.0),
        (ProviderFailed(), 3, None),
        (ProviderFailed(retry_after=timedelta(seconds=4)), 1, 4.0),
        (ProviderLimited(retry_after=timedelta(seconds=3)), 1, 3.0),
        (ProviderLimited(), 1, 10.0),
        (ProviderLimited(retry_after=timedelta(seconds=60)), 1, None),
        (ProviderTimeout(), 1, None),
        (ProviderRefused(), 1, None),
        (ProviderGarbage(), 1, None),
        (ContextTooLong(), 1, None),
        (EngineBusy(), 1, None),
    ],
)
def test_what_is_asked_again_and_when(failure: ServiceError, tried: int, seconds: float | None) -> None:
    wait = pause(failure, tried)
    assert (wait.total_seconds() if wait is not None else None) == seconds


async def test_a_failure_before_the_first_word_is_tried_again_after_a_while() -> None:
    clock = FakeClock()
    provider = Moody([ProviderFailed()], [Doing(Activity.WORKING), ProviderFailed()], [TextDelta("Hi"), STOP])
    running = asyncio.ensure_future(heard(Attempts(clock), provider))
    await clock.asleep()
    await clock.advance(timedelta(seconds=2))
    assert await running == [Doing(Activity.WORKING), TextDelta("Hi"), STOP]
    assert provider.asked == provider.closed == 3


async def test_nothing_is_asked_again_once_something_was_said() -> None:
    provider = Moody([TextDelta("Hel"), ProviderFailed()], [TextDelta("never")])
    with pytest.raises(ProviderFailed):
        await heard(Attempts(FakeClock()), provider)
    assert provider.asked == 1


async def test_a_cancel_while_waiting_asks_nothing_more() -> None:
    clock, provider = FakeClock(), Moody([ProviderFailed()])
    running = asyncio.ensure_future(heard(Attempts(clock), provider))
    await clock.asleep()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert provider.asked == 1


async def test_a_provider_that_fails_in_a_row_is_left_alone_and_one_request_tries_it_later() -> None:
    clock, told = FakeClock(), list[tuple[str, bool]]()
    provider = Moody(*[[ProviderTimeout()]] * FAILURES, [ProviderTimeout()], [TextDelta("Hi"), STOP])
    attempts = Attempts(clock, lambda name, asked: told.append((name, asked)))
    for _ in range(FAILURES):
        with pytest.raises(ProviderTimeout):
            await heard(attempts, provider)
    assert attempts.is_failing("moody")
    with pytest.raises(ProviderFailed) as left_alone:
        await heard(attempts, provider)
    assert left_alone.value.retry_after == timedelta(seconds=OPEN_SECONDS)
    assert provider.asked == FAILURES
    await clock.advance(timedelta(seconds=OPEN_SECONDS))
    with pytest.raises(ProviderTimeout):
        await heard(attempts, provider)
    await clock.advance(timedelta(seconds=OPEN_SECONDS))
    await heard(attempts, provider)
    assert not attempts.is_failing("moody")
    assert told == [("moody", False), ("moody", True)]


async def test_refusals_do_not_count_against_a_provider() -> None:
    provider = Moody(*[[ProviderRefused()]] * (FAILURES + 1))
    attempts = Attempts(FakeClock())
    for _ in range(FAILURES + 1):
        with pytest.raises(ProviderRefused):
            await heard(attempts, provider)


async def test_of_many_requests_one_tries_a_provider_that_was_left_alone() -> None:
    clock = FakeClock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.failed()
    await clock.advance(timedelta(seconds=OPEN_SECONDS))
    breaker.enter()
    with pytest.raises(ProviderFailed):
        breaker.enter()
    breaker.succeeded()
    breaker.enter()
