"""Places in the engine, and the short queue before them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from llm_svc.engine.admission import Admission
from llm_svc.errors import EngineBusy

pytestmark = pytest.mark.requirement("LLM-7")


async def test_one_more_than_places_and_queue_is_refused_at_once() -> None:
    admission = Admission(places=1, queue=1)
    async with admission.place():
        waiting = asyncio.ensure_future(_enter(admission))
        await asyncio.sleep(0)
        with pytest.raises(EngineBusy):
            await _enter(admission)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 20)


async def test_one_who_leaves_the_queue_makes_room_in_it() -> None:
    admission = Admission(places=1, queue=1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admission.place())
        waiting = asyncio.ensure_future(_enter(admission))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        later = asyncio.ensure_future(_enter(admission))
        await asyncio.sleep(0)
        assert not later.done()
        await stack.aclose()
        await asyncio.wait_for(later, 20)


async def test_without_a_queue_a_full_engine_refuses() -> None:
    admission = Admission(places=1, queue=0)
    async with admission.place():
        assert admission.is_full
        with pytest.raises(EngineBusy):
            await _enter(admission)
    await _enter(admission)


@pytest.mark.requirement("ID-8")
async def test_whoever_holds_a_place_keeps_all_of_them_only_so_long_from_another() -> None:
    admission = Admission(places=2, queue=2)
    async with admission.place():
        async with asyncio.timeout(20), admission.all_places(0.01):
            waiting = asyncio.ensure_future(_enter(admission))
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 20)
    async with admission.all_places(20):
        assert admission.is_full
    await asyncio.wait_for(asyncio.gather(*(_enter(admission) for _ in range(4))), 20)


async def _enter(admission: Admission) -> None:
    async with admission.place():
        pass
