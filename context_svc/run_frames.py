"""What a run of a turn tells while it lasts: the frames of orchestrator_svc as this room knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from context_svc.endings import Over
from context_svc.journal import Kind, Payload
from context_svc.leavings import Left
from context_svc.waiting import Suspended


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The answer grew."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The model thought aloud."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call of an action; with `effect` it changes something outside the conversation.

    `agent` and `step`, the model step that asked, are known at its begin, `outcome` (the contract's name) at its end.
    """

    id: str
    action: str
    agent: str = ""
    effect: bool = False
    step: int = 0
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the turn that is passed on as it is. `call` is set for the begin and the end of an action.

    `left` is what an action that ended left behind.
    """

    kind: Kind
    payload: bytes
    call: Call | None = None
    left: Left | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostCalled:
    """The turn asks this room to perform an action. `arguments` is JSON."""

    id: str
    action: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing to say, but at work."""


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """An entry of the turn's receipt, serialised."""

    data: bytes


Frame: TypeAlias = (
    TextDelta | ReasoningDelta | Happened | HostCalled | Over | Suspended | Alive | ReceiptEntry
)


def audited(call: Call, agent: str, outcome: str) -> str:
    """What the audit log tells of an action."""
    return f"{call.action} {agent or '-'} {outcome}"


def constant(payload: bytes) -> Payload:
    """A payload that does not depend on the event's number or time."""
    return lambda _sequence, _time: payload
