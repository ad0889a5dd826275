"""What a turn begins with: its order, what the agent may know, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from orchestrator_svc.conversation import Message, Placement, ToolCall, Trust, Usage


class Purpose(Enum):
    """What a turn is for."""

    ANSWER = "answer"
    ACTION = "action"
    TITLE = "title"
    SUMMARY = "summary"
    MEMORY = "memory"


class ChoiceSource(Enum):
    """Whose choice a model was."""

    TURN = "turn"
    SESSION = "session"
    USER = "user"
    SUGGESTION = "suggestion"
    DEFAULT = "default"
    VISION = "vision"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """A model that somebody asked for."""

    model: str
    source: ChoiceSource


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What the catalogue of llm_svc says of a model. Prices are micro-USD for a million tokens."""

    name: str
    provider: str = ""
    context_tokens: int
    output_tokens: int = 0
    tools: bool = True
    vision: bool = False
    local: bool = False
    default: bool = False
    input_price: int = 0
    output_price: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """Which model answers, and why that one. `skipped` was preferred and is not in the catalogue.

    Prices are micro-USD for a million tokens.
    """

    model: str
    provider: str = ""
    source: ChoiceSource = ChoiceSource.DEFAULT
    skipped: str = ""
    fallback_from: str = ""
    local: bool = False
    from_cache: bool = False
    input_price: int = 0
    output_price: int = 0

    @property
    def explicit(self) -> bool:
        """Whether somebody chose it, so that no other model may take its place."""
        return self.source not in (ChoiceSource.DEFAULT, ChoiceSource.VISION)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Stands for the messages up to `through`, of which the material may hold the last ones."""

    text: str
    messages: int = 0
    through: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One thing known about the person or the session. Data, never an instruction."""

    key: str
    value_json: str
    placement: Placement = Placement.ANY
    trust: Trust = Trust.UNTRUSTED
    update_us: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """How a model writes; what is None is left to it."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    json_schema: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Manner:
    """How a person wants to be answered; what is empty was not said."""

    language: str = ""
    time_zone: str = ""
    units: str = ""
    tone: str = ""
    instructions: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the agent may know in a turn. The last message is the one to answer."""

    messages: tuple[Message, ...] = ()
    summary: Summary | None = None
    dropped_messages: int = 0
    facts: tuple[Fact, ...] = ()
    manner: Manner = Manner()
    placement: Placement = Placement.ANY
    turn_time_us: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a turn may use. Times are seconds; 0 tokens or no cost mean no limit."""

    max_steps: int = 8
    max_calls: int = 16
    max_tool_time: float = 60.0
    max_tokens: int = 0
    max_cost_micro_usd: int | None = None
    max_time: float = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """What a turn has used. Times are seconds."""

    steps: int = 0
    calls: int = 0
    tool_time: float = 0.0
    usage: Usage = Usage()
    time: float = 0.0


class Decision(Enum):
    """What a person said to an approval."""

    APPROVE = "approve"
    EDIT = "edit"
    DENY = "deny"


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalAnswer:
    """The answer to an approval, bound to the arguments that were shown."""

    decision: Decision
    arguments_sha256: str = ""
    edited_arguments: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FormAnswer:
    """The answer to a question."""

    declined: bool
    content_json: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Superseded:
    """No answer came: a newer message took its place."""


PersonsAnswer: TypeAlias = ApprovalAnswer | FormAnswer | Superseded


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A call that waited for the person, and what they said."""

    call: ToolCall
    answer: PersonsAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """Where a turn stopped. `steps` are the model's messages and the results, as the window holds them."""

    counters: Counters = Counters()
    steps: tuple[Message, ...] = ()
    text: str = ""
    answers: tuple[Answered, ...] = ()
    model: ModelChoice | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One turn to run."""

    turn_id: str
    answer_id: str = ""
    session_id: str = ""
    account_id: str = ""
    attempt: int = 1
    purpose: Purpose = Purpose.ANSWER
    material: Material = field(default_factory=Material)
    parameters: Parameters = Parameters()
    preferences: tuple[Preference, ...] = ()
    budget: Budget = Budget()
    action: ToolCall | None = None
    action_approved: bool = False
    action_left_behind: bool = False
    only_actions: tuple[str, ...] = ()
    without_actions: bool = False
    use_response_cache: bool = False
    cache_epoch: int = 0
    resumption: Resumption | None = None
    grant: str = ""  # leave to act for the person in llm_svc
    media_grant: str = ""  # and in media_svc
