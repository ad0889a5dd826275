"""A provider that keeps failing is left alone for a while, and so is its caller's time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from chassis.clock import Clock
from llm_svc.errors import ProviderFailed

FAILURES = 5  # in a row
OPEN_SECONDS = 30.0


class Breaker:
    """Counts failures in a row. Open: nothing is asked; after a while one request tries, then one each while.

    ``changed`` is told whether the provider is asked again.
    """

    def __init__(self, clock: Clock, changed: Callable[[bool], None] = lambda asked: None) -> None:
        self._clock = clock
        self._changed = changed
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it failed too often lately."""
        return self._failures >= FAILURES

    def enter(self) -> None:
        """Before a request. Raises ProviderFailed, with the time to try again, while the provider is left alone."""
        if not self.is_open:
            return
        left = self._next_try - self._clock.monotonic()
        if left > 0:
            raise ProviderFailed("left alone after failures", retry_after=timedelta(seconds=left))
        self._next_try = self._clock.monotonic() + OPEN_SECONDS

    def succeeded(self) -> None:
        """A request ended well."""
        was_open, self._failures = self.is_open, 0
        if was_open:
            self._changed(True)

    def failed(self) -> None:
        """A request failed for a reason that lies with the provider."""
        was_open = self.is_open
        self._failures += 1
        if self.is_open:
            self._next_try = self._clock.monotonic() + OPEN_SECONDS
        if self.is_open and not was_open:
            self._changed(False)
