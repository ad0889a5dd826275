"""Turns as MCP clients follow them: sent, waited for within reason, looked after later."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from chassis.errors import TokenRevoked
from context_svc.errors import TurnNotFound
from context_svc.mcp_door.loopback import Loopback, Visit
from context_svc.wire import mcp_calls as wire
from context_svc.wire.mcp_turn import Handle, TurnView, take_frame

_FOR_A_PERSON = 2.0  # seconds: what was asked before may just have been answered


class TurnDesk:
    """Opens turns and says where they stand."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback

    async def begin(self, visit: Visit, kind: str, request: bytes, *, wait: float) -> TurnView:
        """Open a turn ("send" or "execute") and wait for its end so long. Raises Refused and TokenRevoked.

        It is durable before this waits, and goes on when this stops to.
        """
        method = wire.SEND if kind == "send" else wire.EXECUTE
        view = TurnView()
        await self._follow(view, visit, kind, method, request, wait)
        return view

    async def look(self, visit: Visit, turn: Handle, *, wait: float | None) -> TurnView:
        """Say where a turn stands, after waiting for its end so long (None: as long as is useful).

        Raises Refused, TokenRevoked and TurnNotFound.
        """
        view = TurnView(handle=turn)
        after, at_end = turn.sequence - 1, False
        while not (view.over or at_end):
            page = wire.event_page(
                await self._loopback.ask(visit, wire.EVENTS, wire.events(turn, max(0, after)))
            )
            if page.HasField("snapshot"):
                view.stand_in(page.snapshot)
            for event in page.events:
                view.take(event)
            after, at_end = page.next.sequence, page.at_end
        if not view.found:
            raise TurnNotFound
        if wait is None:
            wait = _FOR_A_PERSON if view.settled else wire.LONGEST_WAIT
        if wait > 0 and not view.over:
            await self._follow(view, visit, "follow", wire.FOLLOW, wire.following(turn, after), wait)
        return view

    async def _follow(
        self, view: TurnView, visit: Visit, kind: str, method: str, request: bytes, wait: float
    ) -> None:
        asked_before = view.settled  # an answer may be on its way: what counts is what comes now
        patience: float | None = None if view.handle is None else wait
        try:
            async with (
                asyncio.timeout(patience) as limit,
                aclosing(self._loopback.stream(visit, method, request)) as frames,
            ):
                async for frame in frames:
                    begun = view.handle is not None
                    take_frame(view, kind, frame)
                    asked_before = asked_before and view.settled
                    if view.over or view.closed or (view.settled and not asked_before):
                        break
                    if not begun and view.handle is not None:
                        limit.reschedule(asyncio.get_running_loop().time() + wait)
        except TimeoutError:
            if not limit.expired():
                raise
        if view.closed == "REVOKED":
            raise TokenRevoked
