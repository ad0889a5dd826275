"""The actions of this room, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator_svc.policy import Offer
from orchestrator_svc.prompt import StandingPrefix, standing_prefix
from orchestrator_svc.selection import Limits, Selection
from orchestrator_svc.tools.tool import Origin, Schema, Tool


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

    def standing_prefix(self, limits: Limits, context_tokens: int) -> StandingPrefix:
        """What every conversation of this deployment begins with, for a model that reads so many tokens."""
        known = {offer.name: offer for offer in self._offers}
        offered = Selection(known, limits, context_tokens).offered
        return standing_prefix(tuple(offer.spec for offer in offered))


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
        added=tool.origin is not Origin.BUILT_IN,
        hosted=tool.hosted,
        writes=tool.writes,
        wordless=tool.wordless,
    )
