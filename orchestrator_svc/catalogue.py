"""The actions of this room, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator_svc.policy import Offer
from orchestrator_svc.prompt import StandingPrefix, ToolSpec, standing_prefix
from orchestrator_svc.tools.tool import Schema, Tool


class Catalogue:
    """Tools by name, in the order of their names. Raises ValueError for two of one name."""

    def __init__(self, tools: Iterable[Tool[Any]]) -> None:
        self._tools: dict[str, Tool[Any]] = {}
        for tool in sorted(tools, key=lambda tool: tool.name):
            if tool.name in self._tools:
                raise ValueError(f"two actions are called {tool.name}")
            self._tools[tool.name] = tool
        self._offers = tuple(_offer(tool) for tool in self)

    def now(self) -> Catalogue:
        """The actions of a turn that begins now: it keeps them to its end, whatever comes and goes meanwhile."""
        return self

    def __iter__(self) -> Iterator[Tool[Any]]:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool[Any] | None:
        """The tool of that name."""
        return self._tools.get(name)

    def offers(self) -> tuple[Offer, ...]:
        """All of them as a turn sees them."""
        return self._offers

    def specs(self) -> tuple[ToolSpec, ...]:
        """Those that are ready, as a model sees them."""
        return tuple(tool.spec for tool in self if tool.ready)

    def standing_prefix(self) -> StandingPrefix:
        """What every conversation of this deployment begins with."""
        return standing_prefix(self.specs())


def _offer(tool: Tool[Any]) -> Offer:
    return Offer(
        spec=tool.spec,
        agent=tool.agent,
        effect=tool.effect,
        schema=Schema(tool.schema),
        timeout=tool.timeout,
        ready=tool.ready,
        foreign=tool.foreign or tool.outside,
        outside=tool.outside,
        hosted=tool.hosted,
        writes=tool.writes,
        wordless=tool.wordless,
    )
