"""What is said in a conversation: messages, their parts, what may be done with them, what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Role(Enum):
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Placement(Enum):
    """Where content may be processed."""

    ANY = "any"
    LOCAL_ONLY = "local_only"


class Trust(Enum):
    """How far content can be trusted when a model reads it."""

    PERSON = "person"
    UNTRUSTED = "untrusted"


class FinishReason(Enum):
    """Why a model stopped."""

    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Words."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasoning:
    """What a model thought aloud."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A request to run an action. `call_id` is unique in its turn, `arguments` a JSON object."""

    call_id: str
    action: str
    arguments: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NextAction:
    """An action that another one proposes to run next. `arguments` is a JSON object."""

    action: str
    arguments: str = "{}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextUpdate:
    """A context item that an action sets, for `ttl` seconds (0: as long as its scope). `value` is JSON."""

    key: str
    value: str
    ttl: float = 0.0
    user_scope: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundTask:
    """Another action that runs later, as a turn of its own, after `delay` seconds; tried `tries` times (0: 3)."""

    action: str
    arguments: str = "{}"
    title: str = ""
    delay: float = 0.0
    tries: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a fact comes from. `fetched_at_us` is 0 when it was not fetched."""

    title: str = ""
    uri: str = ""
    document_id: str = ""
    page: int = 0
    span_start: int = 0
    span_end: int = 0
    snippet: str = ""
    fetched_at_us: int = 0
    publisher: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolResult:
    """What an action answered, as the model reads it."""

    call_id: str
    action: str
    content: str
    failed: bool = False
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """A file or place of a message, in words: what a model that cannot open it is told."""

    text: str


Content: TypeAlias = Text | Reasoning | ToolCall | ToolResult | Described


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One piece of a message. `provider_state` goes back to the same provider unchanged."""

    content: Content
    trust: Trust = Trust.UNTRUSTED
    provider_state: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message of the conversation, or one of a model's window."""

    role: Role
    parts: tuple[Part, ...]
    id: str = ""
    placement: Placement = Placement.ANY


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens and money (micro-USD) of model steps."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost_micro_usd: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            estimated=self.estimated or other.estimated,
            cost_micro_usd=self.cost_micro_usd + other.cost_micro_usd,
        )


def message_bytes(message: Message) -> int:
    """Bytes of all text in a message."""
    return sum(_content_bytes(part.content) for part in message.parts)


def _content_bytes(content: Content) -> int:
    match content:
        case Text(text=text) | Reasoning(text=text) | Described(text=text):
            return len(text.encode("utf-8", "surrogatepass"))
        case ToolCall(arguments=text) | ToolResult(content=text):
            return len(text.encode("utf-8", "surrogatepass"))


def said(text: str, trust: Trust = Trust.PERSON) -> Part:
    """A part of words."""
    return Part(content=Text(text=text), trust=trust)


def strictest(*marks: Placement) -> Placement:
    """The strictest of some marks."""
    return Placement.LOCAL_ONLY if Placement.LOCAL_ONLY in marks else Placement.ANY
