"""What this room needs of llm_svc, without its wire: models to choose from, and streams of model steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from orchestrator_svc.effects import Generate
from orchestrator_svc.inputs import ModelStarted, Reasoned, StepFailed, StepFinished, Token, ToolRequested
from orchestrator_svc.material import ModelFacts, Order


@dataclass(frozen=True, kw_only=True, slots=True)
class Alive:
    """The model has nothing to say yet, and works."""


ModelFrame: TypeAlias = ModelStarted | Token | Reasoned | ToolRequested | StepFinished | StepFailed | Alive


class Steps(Protocol):
    """One open stream of model steps."""

    def __aiter__(self) -> AsyncIterator[ModelFrame]:
        """What the model says, step after step, until the stream ends. Raises PeerFailed when it breaks."""

    async def go_on(self, step: Generate) -> None:
        """Begin the next step with the results of the last one. Raises PeerFailed."""

    async def stop(self) -> None:
        """Stop the step that runs; its end, with what it used, follows. Raises PeerFailed."""


class Models(Protocol):
    """The models of llm_svc."""

    async def catalogue(self, wanted: Collection[str]) -> tuple[ModelFacts, ...]:
        """The models, the default one first; read anew when one of `wanted` is missing. Raises PeerFailed."""

    def open(self, step: Generate, order: Order) -> AbstractAsyncContextManager[Steps]:
        """Open a stream and begin `step`. Leaving the block stops the model at once."""
