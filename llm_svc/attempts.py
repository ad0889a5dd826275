"""One step at one provider, tried again while nothing was said."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import ServiceError
from llm_svc.breaker import Breaker
from llm_svc.errors import ProviderFailed, ProviderGarbage, ProviderLimited, ProviderTimeout
from llm_svc.generation import Delta, Doing, Finished, Request, Usage
from llm_svc.providers.provider import Provider

log = telemetry.logger(__name__)

TRIES = 3
LONGEST_WAIT = timedelta(seconds=10)  # a provider that wants more is not waited for
_FIRST_WAIT_SECONDS = 0.25
_GROWTH = 4
_BREAKING = (ProviderFailed, ProviderTimeout, ProviderGarbage)


def pause(failure: ServiceError, tried: int) -> timedelta | None:
    """How long to wait before the next try, after so many; None when there shall be none."""
    if tried >= TRIES or not isinstance(failure, ProviderFailed | ProviderLimited):
        return None
    backoff = timedelta(seconds=_FIRST_WAIT_SECONDS * _GROWTH ** (tried - 1))
    wait = max(backoff, failure.retry_after or backoff)
    return wait if wait <= LONGEST_WAIT else None


class Attempts:
    """The only place that asks a provider again, and that keeps it from being asked."""

    def __init__(self, clock: Clock, changed: Callable[[str, bool], None] = lambda name, asked: None) -> None:
        """``changed`` is told of each provider whether it is asked again."""
        self._clock = clock
        self._changed = changed
        self._breakers: dict[str, Breaker] = {}

    def is_failing(self, provider: str) -> bool:
        """Whether a provider failed so often that it is left alone."""
        breaker = self._breakers.get(provider)
        return breaker is not None and breaker.is_open

    async def generate(self, provider: Provider, request: Request) -> AsyncGenerator[Delta, None]:
        """The deltas of one step; failures are raised as the provider's own. Closing it ends the work at once."""
        breaker, tried = self._breaker(provider.name), 0
        while True:
            breaker.enter()
            spoke, tried = False, tried + 1
            try:
                async with aclosing(provider.generate(request)) as deltas:
                    async for delta in deltas:
                        spoke = spoke or not isinstance(delta, Doing | Usage)
                        if isinstance(delta, Finished):
                            breaker.succeeded()
                        yield delta
                return
            except ServiceError as failure:
                if isinstance(failure, _BREAKING):
                    breaker.failed()
                wait = None if spoke else pause(failure, tried)
                if wait is None:
                    raise
                log.info(
                    "a provider is asked again", provider=provider.name, reason=failure.reason, tried=tried
                )
            await self._clock.sleep(wait.total_seconds() * random.uniform(1.0, 1.25))  # noqa: S311 - spreads load

    def _breaker(self, name: str) -> Breaker:
        if name not in self._breakers:
            self._breakers[name] = Breaker(self._clock, lambda asked: self._changed(name, asked))
        return self._breakers[name]
