"""Tasks with an owner, and what must not be lost when a waiter is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from chassis.tasks import Tasks, acquired


class Maker:
    """Makes one thing when it may, and takes it back."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.released: list[str] = []

    async def make(self) -> str:
        await self.go_on.wait()
        return "it"

    async def release(self, made: str) -> None:
        self.released.append(made)


async def test_a_waiter_gets_what_was_made() -> None:
    maker = Maker()
    maker.go_on.set()
    assert await acquired(maker.make(), maker.release) == "it"
    assert maker.released == []


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_what_a_cancelled_waiter_would_have_got_is_released(times: int) -> None:
    maker = Maker()
    waiting = asyncio.ensure_future(acquired(maker.make(), maker.release))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    maker.go_on.set()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    assert maker.released == ["it"]


async def test_what_fails_is_told_and_nothing_is_released() -> None:
    maker = Maker()

    async def fail() -> str:
        await maker.go_on.wait()
        raise OSError("no")

    maker.go_on.set()
    with pytest.raises(OSError, match="no"):
        await acquired(fail(), maker.release)
    maker.go_on.clear()
    waiting = asyncio.ensure_future(acquired(fail(), maker.release))
    await asyncio.sleep(0)
    waiting.cancel()
    maker.go_on.set()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    assert maker.released == []


async def test_a_failure_that_its_waiter_hears_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async with Tasks() as tasks:
        failing = [
            tasks.spawn("expected", fail(KeyError("gone")), heard=(KeyError,)),
            tasks.spawn("not expected", fail(OSError("disk")), heard=(KeyError,)),
        ]
        await asyncio.wait(failing)
    assert [record.getMessage() for record in caplog.records] == ["background task crashed"]
