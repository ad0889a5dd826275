"""Hints between processes over PostgreSQL's NOTIFY: sent after each batch, heard on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import asyncpg

from chassis import ids, telemetry
from chassis.clock import Clock
from chassis.hints import EVERYTHING, NOTHING, Inbox, Touched
from chassis.tasks import Tasks

log = telemetry.logger(__name__)

PAUSE = 0.5  # seconds between two attempts to hear again


class Notices:
    """One process's voice and ear. `send` is how a statement reaches the server."""

    def __init__(
        self, dsn: str, schema: str, send: Callable[[str, str], Awaitable[Any]], clock: Clock
    ) -> None:
        self._dsn = dsn
        self._channel = f"{schema}_touched"
        self._send = send
        self._clock = clock
        self._own = ids.uuid()
        self._unsent = NOTHING
        self._some = asyncio.Event()

    def touched(self, aggregates: Iterable[str]) -> None:
        """A batch of these was committed: the others are told soon."""
        self._unsent |= Touched.of(aggregates)
        self._some.set()

    async def tell(self) -> None:
        """Send what was touched, merged while a notice is on its way. A notice that fails is lost."""
        while True:
            await self._some.wait()
            self._some.clear()
            unsent, self._unsent = self._unsent, NOTHING
            try:
                await self._send(self._channel, f"{self._own}:{unsent.text()}")
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("a notice was not sent", error=error)
                await self._clock.sleep(PAUSE)

    async def hear(self) -> AsyncIterator[Touched]:
        """What other processes touched; EVERYTHING at the beginning, after each interruption and after silence."""
        inbox = Inbox()
        async with Tasks() as tasks:
            tasks.spawn("hear notices", self._listen(inbox))
            async for touched in inbox.hints():
                yield touched

    async def _listen(self, inbox: Inbox) -> None:
        while True:
            try:
                await self._until_lost(inbox)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("notices are not heard", error=error)
            await self._clock.sleep(PAUSE)

    async def _until_lost(self, inbox: Inbox) -> None:
        lost = asyncio.Event()
        connection = await asyncpg.connect(self._dsn, timeout=5, command_timeout=10)
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._channel, lambda *heard: self._hear(inbox, str(heard[3])))
            inbox.put(EVERYTHING)
            await lost.wait()
        finally:
            connection.terminate()

    def _hear(self, inbox: Inbox, payload: str) -> None:
        sender, _, text = payload.partition(":")
        if sender != self._own:
            inbox.put(Touched.read(text))
