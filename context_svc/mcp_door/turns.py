"""Turns as MCP clients follow them: sent, waited for within reason, looked after later."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from context_svc.errors import TurnNotFound
from context_svc.mcp_door.loopback import Loopback, Visit
from context_svc.wire import mcp_calls as wire
from context_svc.wire.mcp_turn import Handle, TurnView, take_frame


class TurnDesk:
    """Opens turns and says where they stand."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback

    async def begin(self, visit: Visit, kind: str, request: bytes, *, wait: float) -> TurnView:
        """Open a turn ("send" or "execute") and wait for its end so long. Raises Refused.

        It is durable before this waits, and goes on when this stops to.
        """
        method = wire.SEND if kind == "send" else wire.EXECUTE
        view = TurnView()
        await self._follow(view, visit, kind, method, request, wait)
        return view

    async def look(self, visit: Visit, turn: Handle, *, wait: float) -> TurnView:
        """Say where a turn stands, after waiting for its end so long. Raises Refused and TurnNotFound."""
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
        if wait > 0 and not view.settled:
            await self._follow(view, visit, "follow", wire.FOLLOW, wire.following(turn, after), wait)
        return view

    async def _follow(
        self, view: TurnView, visit: Visit, kind: str, method: str, request: bytes, wait: float
    ) -> None:
        patience: float | None = None if view.handle is None else wait
        try:
            async with (
                asyncio.timeout(patience) as limit,
                aclosing(self._loopback.stream(visit, method, request)) as frames,
            ):
                async for frame in frames:
                    begun = view.handle is not None
                    take_frame(view, kind, frame)
                    if view.settled or view.closed:
                        return
                    if not begun and view.handle is not None:
                        limit.reschedule(asyncio.get_running_loop().time() + wait)
        except TimeoutError:
            if not limit.expired():
                raise
