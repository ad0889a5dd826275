"""What the operator adds to the built-in actions while the room runs: plugins, and the tools of servers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from chassis.clock import Clock
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.tools.tool import Tool

LOOK_SECONDS = 1.0
RESERVED = frozenset({"document_search"})
"""Names of built-in actions to come; nothing else may have them."""


class Additions(Protocol):
    """A source of actions that come and go."""

    async def changed(self) -> bool:
        """Look for changes, and take them in. Whether there were any."""

    def tools(self, taken: Collection[str]) -> Sequence[Tool[Any]]:
        """The actions there are, and an entry for what cannot be used. None of them has a name of `taken`."""


class LiveCatalogue(Catalogue):
    """The built-in actions and those that were added. A name of a built-in one is never anybody else's."""

    def __init__(
        self,
        built_in: Iterable[Tool[Any]],
        additions: Sequence[Additions],
        reserved: Collection[str] = RESERVED,
    ) -> None:
        self._built_in = tuple(built_in)
        self._additions = additions
        self._reserved = frozenset(reserved)
        super().__init__(self._built_in)
        self._now = Catalogue(self._built_in)

    def now(self) -> Catalogue:
        """The actions of a turn that begins now."""
        return self._now

    async def look(self) -> None:
        """Take in what changed."""
        for each in self._additions:
            await self._look(each)

    async def watch(self, clock: Clock) -> None:
        """Look for changes for ever; one source that is slow holds up no other."""
        async with asyncio.TaskGroup() as group:
            for each in self._additions:
                group.create_task(self._watch(each, clock))

    async def _watch(self, source: Additions, clock: Clock) -> None:
        while True:
            await self._look(source)
            await clock.sleep(LOOK_SECONDS)

    async def _look(self, source: Additions) -> None:
        if not await source.changed():
            return
        tools = list(self._built_in)
        for each in self._additions:
            tools += each.tools(self._reserved | {tool.name for tool in tools})
        self._now = Catalogue(tools)
