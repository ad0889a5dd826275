"""What a run of model steps tells its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from chassis.errors import ServiceError
from llm_svc.catalogue import Choice
from llm_svc.generation import Doing, FinishReason, ReasoningDelta, TextDelta, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class Started:
    """The model was chosen. ``fallback_from`` failed before its first token, and this one took its place."""

    choice: Choice
    fallback_from: str = ""
    from_cache: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDone:
    """A step ended; ``reason`` is None when it was cancelled. Cost in micro-USD."""

    reason: FinishReason | None
    usage: Usage
    cost: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFailed:
    """A step failed after it was asked; the run is over."""

    error: ServiceError
    usage: Usage
    cost: int


Event: TypeAlias = Started | TextDelta | ReasoningDelta | ToolCall | StepDone | StepFailed | Doing
