"""The way from one place to another, whoever plans it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.places.spot import Spot
from orchestrator_svc.tools.tool import ToolFailure

Mode: TypeAlias = Literal["driving", "walking", "bicycling", "transit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing to do on the way, and how far to go after it."""

    text: str
    meters: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A whole way."""

    meters: float
    seconds: float
    steps: Sequence[Step]


class Router(Protocol):
    """Plans ways. Raises ToolFailure; never estimates one."""

    @property
    def source(self) -> str:
        """Whom to name for it, with the licence."""

    @property
    def home(self) -> str:
        """Where a person can read about the source."""

    @property
    def modes(self) -> frozenset[Mode]:
        """How one can go with it."""

    async def route(self, origin: Spot, destination: Spot, mode: Mode) -> Route:
        """The way; `mode` is one of `modes`."""


def no_way(mode: Mode) -> ToolFailure:
    """The failure of a router that knows both places and no way between them."""
    return ToolFailure(
        f"There is no way to go there by {mode}.", reason=Reason.ARGUMENTS_INVALID, field="destination"
    )
