"""What comes from outside comes in bounded time and size, or not at all."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from chassis.testing import SOON
from orchestrator_svc.egress.failures import EgressFailure, Garbled, TooLarge, TooSlow, Unreachable
from orchestrator_svc.egress.web import Bounds, Site, egress
from tests.unit.orchestrator_svc.outside import Answer, Outside, outside

pytestmark = pytest.mark.requirement("SAFE-3")
BOUNDS = Bounds(bytes=100_000, seconds=5.0)


@pytest.fixture
async def there() -> AsyncIterator[Outside]:
    async with outside() as server:
        yield server


@pytest.fixture
async def site(there: Outside) -> AsyncIterator[Site]:
    async with egress() as out:
        yield await out.site(there.url, private=True)


async def test_an_answer_comes_whole(there: Outside, site: Site) -> None:
    there.answers["/a"] = Answer(body=b"hello", headers={"X-Thing": "1"})
    reply = await site.get("a", {"q": "ö & b"}, headers={"Authorization": "secret"})
    assert (reply.status, reply.body, reply.headers["x-thing"]) == (200, b"hello", "1")
    asked = there.asked[0]
    assert asked.query == {"q": "ö & b"}
    assert asked.headers["authorization"] == "secret"
    assert "cookie" not in asked.headers


async def test_a_packed_answer_is_unpacked(there: Outside, site: Site) -> None:
    there.answers["/a"] = Answer(body=gzip.compress(b"hello" * 100), headers={"Content-Encoding": "gzip"})
    assert (await site.get("a")).body == b"hello" * 100


@pytest.mark.parametrize(
    ("fault", "failure"),
    [("garbage", Garbled), ("huge", TooLarge), ("cut", Garbled), ("slow", TooSlow)],
)
async def test_a_server_that_misbehaves_is_a_failure(
    there: Outside, site: Site, fault: str, failure: type[EgressFailure]
) -> None:
    there.fault = fault
    bounds = Bounds(bytes=100_000, seconds=0.2) if fault == "slow" else BOUNDS
    async with asyncio.timeout(SOON.total_seconds()):
        with pytest.raises(failure):
            await site.get("a", bounds=bounds)


async def test_a_small_answer_that_unpacks_into_a_huge_one_ends_at_the_limit(
    there: Outside, site: Site
) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    there.answers["/a"] = Answer(body=bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(TooLarge):
        await site.get("a", bounds=BOUNDS)


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", b"no gzip"), ("br", b"x"), ("gzip", gzip.compress(b"cut off", mtime=0)[:-9])],
    ids=["no gzip", "not asked for", "cut off"],
)
async def test_an_answer_that_cannot_be_unpacked_is_garbage(
    there: Outside, site: Site, coding: str, body: bytes
) -> None:
    there.answers["/a"] = Answer(body=body, headers={"Content-Encoding": coding})
    with pytest.raises(Garbled):
        await site.get("a", bounds=BOUNDS)


async def test_nobody_there_is_unreachable() -> None:
    async with outside() as server:
        url = server.url
    async with egress() as out:
        with pytest.raises(Unreachable):
            await (await out.site(url, private=True)).get("a")


@pytest.mark.requirement("AGT-6")
async def test_who_is_cancelled_hangs_up(there: Outside, site: Site) -> None:
    there.fault = "slow"
    asking = asyncio.ensure_future(site.get("a"))
    async with asyncio.timeout(SOON.total_seconds()):
        await there.waiting.wait()
    asking.cancel()
    await asyncio.sleep(0)
    asking.cancel()  # as a turn does that ends because it was cancelled
    async with asyncio.timeout(SOON.total_seconds()):
        await there.hung_up.wait()
    assert asking.cancelled()
