"""The owner of the feed, without a socket."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from chassis.auth import Revocations
from chassis.testing import FakeClock
from context_svc.revocations import Change, Closed, CloseReason, EndedSignIn, Feed, Heartbeat, State


def feed(clock: FakeClock, **lengths: Any) -> tuple[Feed, Revocations]:
    own = Revocations(clock, patience=None)
    return Feed(clock, own, (), **lengths), own


async def test_a_listener_that_does_not_keep_up_is_closed_as_slow() -> None:
    clock = FakeClock()
    owner, _ = feed(clock)
    frames = owner.watch(room="llm", instance="i", version="1")
    assert isinstance(await anext(frames), State)
    for number in range(300):
        owner.ended([EndedSignIn(sign_in=f"s{number}", account="a", end_us=clock.now_us())])
    assert [frame async for frame in frames] == [Closed(CloseReason.SLOW)]
    assert owner.watchers() == ()


async def test_a_quiet_feed_beats() -> None:
    owner, _ = feed(FakeClock(), heartbeat=timedelta(milliseconds=5))
    frames = owner.watch(room="llm", instance="i", version="1")
    assert isinstance(await anext(frames), State)
    assert isinstance(await anext(frames), Heartbeat)
    await frames.aclose()  # type: ignore[attr-defined]


async def test_what_no_token_can_name_any_more_is_forgotten() -> None:
    clock = FakeClock()
    owner, own = feed(clock)
    owner.ended([EndedSignIn(sign_in="old", account="a", end_us=clock.now_us())])
    await clock.advance(timedelta(minutes=12))
    owner.ended([EndedSignIn(sign_in="new", account="a", end_us=clock.now_us())])
    frames = owner.watch(room="llm", instance="i", version="1")
    state = await anext(frames)
    assert isinstance(state, State)
    assert [each.sign_in for each in state.sign_ins] == ["new"]
    assert own.alive()
    await frames.aclose()  # type: ignore[attr-defined]


async def test_streams_of_the_same_room_hear_of_each_end() -> None:
    clock = FakeClock()
    owner, _ = feed(clock)
    changes = owner.changes()
    first = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    ended = EndedSignIn(sign_in="s", account="a", end_us=clock.now_us())
    owner.ended([ended])
    assert await first == Change(sign_ins=(ended,))
    owner.drain()
    assert [change async for change in changes] == []
