"""What a turn can ask for: events to tell, steps and actions to run, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from orchestrator_svc.conversation import (
    BackgroundTask,
    ContextUpdate,
    FinishReason,
    NextAction,
    Part,
    Placement,
    Source,
    ToolCall,
    ToolResult,
    Usage,
)
from orchestrator_svc.inputs import Failed
from orchestrator_svc.material import ModelChoice, Parameters, Resumption
from orchestrator_svc.policy import Cause
from orchestrator_svc.prompt import ToolSpec
from orchestrator_svc.tools.tool import Effect as EffectClass
from orchestrator_svc.window import Report, Window


class Stage(Enum):
    """Where a turn is, or failed."""

    UNKNOWN = "unknown"
    WINDOW = "window"
    MODEL = "model"
    TOOL = "tool"
    WAIT = "wait"


class Ending(Enum):
    """How an action ended."""

    DONE = "done"
    FAILED = "failed"
    DENIED = "denied"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnStarted:
    """Work began. `model` is None for a turn without a model."""

    attempt: int
    answer_id: str
    model: ModelChoice | None
    window: Report


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDelta:
    """The answer grew."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningDelta:
    """The model thought aloud."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolStarted:
    """An action began; `step` is the model step that asked, from 1."""

    call: ToolCall
    agent: str
    effect: EffectClass
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolProgress:
    """An action has something to show meanwhile."""

    call_id: str
    message: str
    fraction: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolFinished:
    """An action ended, after `duration` seconds. `content` is what the model reads."""

    call_id: str
    action: str
    ending: Ending
    content: str
    error: Failed | None = None
    sources: tuple[Source, ...] = ()
    next_actions: tuple[NextAction, ...] = ()
    context_updates: tuple[ContextUpdate, ...] = ()
    background_tasks: tuple[BackgroundTask, ...] = ()
    duration: float = 0.0
    truncated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalRequested:
    """An action needs the person's consent."""

    approval_id: str
    call: ToolCall
    arguments_sha256: str
    effect: EffectClass
    cause: Cause


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRequested:
    """An action asks the person a question. `form` is a flat JSON schema."""

    input_id: str
    call: ToolCall
    question: str
    form: str


Request: TypeAlias = ApprovalRequested | InputRequested
Event: TypeAlias = (
    TurnStarted | TextDelta | ReasoningDelta | ToolStarted | ToolProgress | ToolFinished | Request
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Emit:
    """Tell an event."""

    event: Event


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEntry:
    """A model step, for the receipt."""

    model: str
    usage: Usage
    duration: float
    reason: FinishReason


@dataclass(frozen=True, kw_only=True, slots=True)
class CallEntry:
    """An action, for the receipt and the audit."""

    call_id: str
    action: str
    agent: str
    ending: Ending
    duration: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressEntry:
    """Something that left the machines of the mesh, for the receipt."""

    destination: str
    content: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowEntry:
    """How many seconds it took to make a window, for the receipt."""

    duration: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """An entry of the turn's receipt."""

    entry: StepEntry | CallEntry | EgressEntry | WindowEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Run a model step.

    With `opens` a new stream begins with the whole window. Else the open one goes on with `results`; with
    `refitted` the window goes too, because it is more than what was sent before; with `retooled` the tools, because
    they are other ones. `withheld`: answer in words.
    """

    step: int
    choice: ModelChoice
    window: Window
    tools: tuple[ToolSpec, ...] = ()
    results: tuple[ToolResult, ...] = ()
    opens: bool = True
    refitted: bool = False
    retooled: bool = False
    withheld: bool = False
    parameters: Parameters = Parameters()
    placement: Placement = Placement.ANY
    max_cost_micro_usd: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StopModel:
    """Stop the model step that runs; it ends with StepFinished or StepFailed, which say what it used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTool:
    """Run an action for at most `timeout` seconds."""

    call: ToolCall
    timeout: float


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCall:
    """Let context_svc run an action, for at most `timeout` seconds."""

    call: ToolCall
    timeout: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AwaitRecord:
    """Wait until the ToolStarted of this call is durable."""

    call: ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelTool:
    """Stop an action."""

    call_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was said and done in a turn, as its message."""

    id: str
    parts: tuple[Part, ...]
    model: str = ""
    finish_reason: FinishReason = FinishReason.UNKNOWN
    partial: bool = False
    placement: Placement = Placement.ANY


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspend:
    """The turn waits for the person, or (nothing waits) is given back. The last effect."""

    pending: tuple[Request, ...]
    resumption: Resumption


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """The turn ended with a whole answer. The last effect."""

    answer: Answer
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Fail:
    """The turn failed. The last effect."""

    reason: str
    message: str
    retryable: bool
    stage: Stage
    partial: Answer | None
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    """The turn was stopped. The last effect."""

    partial: Answer | None
    usage: Usage


End: TypeAlias = Suspend | Finish | Fail | Cancelled
Effect: TypeAlias = (
    Emit
    | Receipt
    | Generate
    | StopModel
    | RunTool
    | HostCall
    | AwaitRecord
    | CancelTool
    | Suspend
    | Finish
    | Fail
    | Cancelled
)
