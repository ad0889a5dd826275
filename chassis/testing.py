"""What tests of every room need: time they move, short socket paths, a server in a block, bounded waits."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import grpc

from chassis.access import Policies, Policy
from chassis.boundary import Boundary
from chassis.call import Caller
from chassis.crossing import Authenticates, Metadata
from chassis.health import Health
from chassis.serve import Register, serving

SOON = timedelta(seconds=20)


class FakeClock:
    """A clock that stands still until `advance`; sleepers wake in the order of their times."""

    def __init__(self, start_us: int = 1_800_000_000_000_000) -> None:
        self._now_us = start_us
        self._steady = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._slept = asyncio.Event()

    def now_us(self) -> int:
        """Wall time in microseconds since 1970 UTC."""
        return self._now_us

    def monotonic(self) -> float:
        """Seconds on the steady clock."""
        return self._steady

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._steady + seconds, next(self._order), wake))
        self._slept.set()
        await wake

    async def asleep(self, count: int = 1) -> None:
        """Return when at least `count` sleepers wait: the moment to advance."""
        while len(self._waiting()) < count:
            self._slept.clear()
            await asyncio.wait_for(self._slept.wait(), SOON.total_seconds())

    async def awaited(self, seconds: float) -> None:
        """Return when somebody sleeps who is due in so many seconds."""
        while not any(abs(due - self._steady - seconds) < 1e-6 for due, *_ in self._waiting()):
            self._slept.clear()
            await asyncio.wait_for(self._slept.wait(), SOON.total_seconds())

    async def advance(self, by: timedelta) -> None:
        """Let `by` pass: everyone due wakes, at their own time, and runs until they wait again."""
        end = self._steady + by.total_seconds()
        while (due := self._waiting()) and due[0][0] <= end:
            self._move_to(due[0][0])
            _, _, wake = heapq.heappop(self._sleepers)
            wake.set_result(None)
            await _settle()
        self._move_to(end)
        await _settle()

    def jump(self, by: timedelta) -> None:
        """Set the wall clock alone, as a person or NTP does."""
        self._now_us += round(by.total_seconds() * 1e6)

    def _move_to(self, steady: float) -> None:
        self._now_us += round((steady - self._steady) * 1e6)
        self._steady = steady

    def _waiting(self) -> list[tuple[float, int, asyncio.Future[None]]]:
        self._sleepers = [each for each in self._sleepers if not each[2].done()]
        heapq.heapify(self._sleepers)
        return self._sleepers


async def _settle() -> None:
    for _ in range(10):  # enough turns of the loop for a woken task to reach its next wait
        await asyncio.sleep(0)


@contextmanager
def socket_directory() -> Iterator[Path]:
    """A new folder (0700) with a short path: a unix socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder:
        yield Path(folder)


class Everyone:
    """An authenticator that knows one caller: for tests whose subject is not identity."""

    def __init__(self, caller: Caller | None = None) -> None:
        self._caller = caller

    def caller(self, metadata: Metadata, policy: Policy) -> Caller | None:
        """That caller, whatever the call."""
        return self._caller


@asynccontextmanager
async def serve_for_test(
    *services: Register,
    policies: Policies,
    authenticator: Authenticates | None = None,
    boundary: Boundary | None = None,
    health: Health | None = None,
    service_names: Sequence[str] = (),
    descriptors: bytes | None = None,
    address: str = "",
) -> AsyncIterator[grpc.aio.Channel]:
    """A real server on a unix socket of its own, or at `address`, and a bare channel to it."""
    boundary = boundary or Boundary(
        policies=policies, authenticator=authenticator or Everyone(), domain="assistant.test"
    )
    with socket_directory() as folder:
        address = address or f"unix:{folder}/t.sock"
        async with (
            serving(
                addresses=[address],
                services=services,
                service_names=service_names,
                boundary=boundary,
                health=health or Health(),
                descriptors=descriptors,
                grace=timedelta(0),
            ),
            grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            yield channel


async def eventually(condition: Callable[[], bool], within: timedelta = SOON) -> None:
    """Return when `condition` holds; raises TimeoutError when it does not `within` that time.

    For what announces itself by no event; wait for the event where there is one.
    """
    async with asyncio.timeout(within.total_seconds()):
        while not condition():  # noqa: ASYNC110 - a condition without an event is what this is for
            await asyncio.sleep(0.002)
