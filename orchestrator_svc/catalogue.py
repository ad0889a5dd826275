"""The actions of this room, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator_svc.prompt import StandingPrefix, ToolSpec, standing_prefix
from orchestrator_svc.tools.tool import Schema, Tool


class Catalogue:
    """Tools by name, in the order of their names. Raises ValueError for two of one name."""

    def __init__(self, tools: Iterable[Tool[Any]]) -> None:
        self._tools: dict[str, Tool[Any]] = {}
        self._schemas: dict[str, Schema] = {}
        for tool in sorted(tools, key=lambda tool: tool.name):
            if tool.name in self._tools:
                raise ValueError(f"two actions are called {tool.name}")
            self._tools[tool.name] = tool
            self._schemas[tool.name] = Schema(tool.schema)

    def __iter__(self) -> Iterator[Tool[Any]]:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool[Any] | None:
        """The tool of that name."""
        return self._tools.get(name)

    def schema(self, name: str) -> Schema:
        """What checks the arguments of a tool that is here."""
        return self._schemas[name]

    def specs(self) -> tuple[ToolSpec, ...]:
        """All of them as a model sees them."""
        return tuple(tool.spec for tool in self)

    def standing_prefix(self) -> StandingPrefix:
        """What every conversation of this deployment begins with."""
        return standing_prefix(self.specs())
