"""What a turn can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from orchestrator_svc.conversation import (
    BackgroundTask,
    ContextUpdate,
    FinishReason,
    NextAction,
    Source,
    ToolCall,
    Usage,
)
from orchestrator_svc.material import ModelFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """Begin. `models` is the catalogue, the default one first."""

    models: tuple[ModelFacts, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelStarted:
    """The model was chosen and asked."""

    model: str
    provider: str = ""
    local: bool = False
    fallback_from: str = ""
    vision_from: str = ""
    from_cache: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """The answer grew."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasoned:
    """The model thought aloud."""

    text: str
    provider_state: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolRequested:
    """The model asks for an action."""

    call: ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFinished:
    """A model step is done, after `duration` seconds."""

    reason: FinishReason = FinishReason.STOP
    usage: Usage = Usage()
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFailed:
    """A model step failed, or the catalogue could not be read. The stream is closed.

    `usage` is None when nobody could say what the step used.
    """

    reason: str
    message: str
    retryable: bool = False
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """An action did what was asked. `content` is text or JSON for the model."""

    content: str
    sources: tuple[Source, ...] = ()
    next_actions: tuple[NextAction, ...] = ()
    context_updates: tuple[ContextUpdate, ...] = ()
    background_tasks: tuple[BackgroundTask, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """An action failed. `field` names the argument at fault."""

    reason: str
    message: str
    field: str = ""
    retryable: bool = False


Outcome: TypeAlias = Done | Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolDone:
    """An action ended, after `duration` seconds."""

    call_id: str
    outcome: Outcome
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolAsked:
    """An action needs an answer of the person, after `duration` seconds. `form` is a flat JSON schema."""

    call_id: str
    question: str
    form: str
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolProgressed:
    """An action has something to show meanwhile."""

    call_id: str
    message: str
    fraction: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostAnswered:
    """An action of context_svc ended; its ToolFinished stands in the log already."""

    call_id: str
    outcome: Outcome
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectRecorded:
    """The ToolStarted of an action with effects is durable."""

    call_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRequested:
    """The person stopped the turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class YieldRequested:
    """Give the turn back at the next step boundary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elapsed:
    """The turn's time is over."""


Input: TypeAlias = (
    Started
    | ModelStarted
    | Token
    | Reasoned
    | ToolRequested
    | StepFinished
    | StepFailed
    | ToolDone
    | ToolAsked
    | ToolProgressed
    | HostAnswered
    | EffectRecorded
    | CancelRequested
    | YieldRequested
    | Elapsed
)
