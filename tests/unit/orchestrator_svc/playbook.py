"""A turn's test as a dialogue: `Play(...) >> what it is told << what it must ask for`.

Everything asked for must be expected, in order, before the turn is told more. Receipts are left out.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from orchestrator_svc.conversation import Message, Role, Text, ToolCall, ToolResult, said
from orchestrator_svc.effects import (
    ApprovalRequested,
    AwaitRecord,
    Cancelled,
    CancelTool,
    Effect,
    Emit,
    Fail,
    Finish,
    Generate,
    HostCall,
    Receipt,
    RunTool,
    StopModel,
    Suspend,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnStarted,
)
from orchestrator_svc.inputs import (
    Done,
    Failed,
    Input,
    ModelStarted,
    StepFinished,
    Token,
    ToolDone,
    ToolRequested,
)
from orchestrator_svc.material import Budget, Material, ModelFacts, Order
from orchestrator_svc.policy import Offer
from orchestrator_svc.prompt import ToolSpec
from orchestrator_svc.tools.tool import Effect as EffectClass
from orchestrator_svc.tools.tool import Schema
from orchestrator_svc.turn import Turn

MODEL = ModelFacts(name="parrot", provider="test", context_tokens=8_000, default=True, local=True)


SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"q": {"type": "string"}},
        "required": ["q"],
        "additionalProperties": False,
    }
)


def action(name: str, effect: EffectClass = EffectClass.NONE, *, hosted: bool = False) -> Offer:
    """An action with one text argument `q`."""
    spec = ToolSpec(name=name, description=f"{name} something", schema=SCHEMA)
    return Offer(spec=spec, agent="test", effect=effect, schema=Schema(SCHEMA), hosted=hosted)


def order(*, say: str = "hi", **rest: Any) -> Order:
    """An order to answer one message."""
    material = Material(messages=(Message(role=Role.USER, parts=(said(say),)),))
    return Order(**{"turn_id": "t", "answer_id": "a", "material": material, **rest})


def turn(*offers: Offer, say: str = "hi", **rest: Any) -> Turn:
    """A turn that may use these actions."""
    return Turn(order(say=say, **rest), offers)


def budget(**rest: Any) -> Budget:
    """A budget."""
    return Budget(**rest)


# -- what a turn is told ---------------------------------------------------------------------------------


def call(call_id: str, name: str, q: str | None = "x") -> ToolCall:
    """A call with the argument `q`, or with none."""
    return ToolCall(call_id=call_id, action=name, arguments="{}" if q is None else json.dumps({"q": q}))


def asks_for(call_id: str, name: str, q: str | None = "x") -> ToolRequested:
    """The model asks for an action."""
    return ToolRequested(call=call(call_id, name, q))


def answers(call_id: str, content: str, duration: float = 0.0) -> ToolDone:
    """An action ends well."""
    return ToolDone(call_id=call_id, outcome=Done(content=content), duration=duration)


def breaks(call_id: str, reason: str = "ACTION_FAILED", *, retryable: bool = False) -> ToolDone:
    """An action fails."""
    return ToolDone(call_id=call_id, outcome=Failed(reason=reason, message="broken", retryable=retryable))


def begins() -> ModelStarted:
    """The model was asked."""
    return ModelStarted(model="parrot", provider="test", local=True)


def done(**rest: Any) -> StepFinished:
    """A model step ends."""
    return StepFinished(**rest)


def token(text: str) -> Token:
    """The model says something."""
    return Token(text=text)


# -- what it must ask for --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One effect, as far as these tests look at it."""

    verb: str
    facts: tuple[object, ...] = ()

    def __repr__(self) -> str:
        return f"{self.verb}{self.facts}"


def opened() -> Line:
    """TurnStarted."""
    return Line("opened")


def says(text: str) -> Line:
    """A piece of the answer."""
    return Line("says", (text,))


def generate(*seen: str, withheld: bool = False) -> Line:
    """A model step over a window whose last words are these."""
    return Line("generate", (*seen, "withheld" if withheld else "free"))


def starts(call_id: str, name: str) -> Line:
    """ToolStarted."""
    return Line("starts", (call_id, name))


def runs(call_id: str, name: str) -> Line:
    """The action is run."""
    return Line("runs", (call_id, name))


def hosts(call_id: str, name: str) -> Line:
    """The action is run by context_svc."""
    return Line("hosts", (call_id, name))


def records(call_id: str) -> Line:
    """The start of the action must be durable first."""
    return Line("records", (call_id,))


def ended(call_id: str, ending: str, field: str = "") -> Line:
    """ToolFinished."""
    return Line("ended", (call_id, ending, field))


def approval(call_id: str, cause: str = "effect") -> Line:
    """ApprovalRequested."""
    return Line("approval", (call_id, cause))


def stops_model() -> Line:
    """The model step is stopped."""
    return Line("stops model")


def stops(call_id: str) -> Line:
    """An action is stopped."""
    return Line("stops", (call_id,))


def suspends(*call_ids: str) -> Line:
    """The turn waits for these calls, or is given back."""
    return Line("suspends", call_ids)


def finishes(text: str) -> Line:
    """The turn ends with this answer."""
    return Line("finishes", (text,))


def fails(reason: str, partial: str | None = None) -> Line:
    """The turn fails."""
    return Line("fails", (reason, partial))


def cancelled(partial: str | None = None) -> Line:
    """The turn is cancelled."""
    return Line("cancelled", (partial,))


@dataclass
class Play:
    """The dialogue."""

    turn: Turn
    tail: int = 1
    asked: deque[Effect] = field(default_factory=deque)
    all: list[Effect] = field(default_factory=list)

    def __rshift__(self, told: Input) -> Self:
        assert not self.asked, f"not expected: {[line(each, self.tail) for each in self.asked]}"
        effects = list(self.turn.receive(told))
        self.all += effects
        self.asked += [each for each in effects if not isinstance(each, Receipt)]
        return self

    def __lshift__(self, expected: Line | Iterable[Line]) -> Self:
        for each in (expected,) if isinstance(expected, Line) else expected:
            assert self.asked, f"nothing asked for, expected {each}"
            tail = len(each.facts) - 1 if each.verb == "generate" else 0
            assert line(self.asked.popleft(), tail) == each
        return self

    def end(self) -> list[Effect]:
        """Check that nothing is left over; answer every effect of the play."""
        assert not self.asked, f"not expected: {[line(each, self.tail) for each in self.asked]}"
        return self.all


def words(messages: Iterable[Message]) -> list[str]:
    """Texts and results of a window, in order."""
    contents = [part.content for message in messages for part in message.parts]
    return [
        each.text if isinstance(each, Text) else each.content
        for each in contents
        if isinstance(each, Text | ToolResult)
    ]


def line(effect: Effect, tail: int) -> Line:
    """An effect as one line of the dialogue."""
    match effect:
        case Emit(event=TurnStarted()):
            return opened()
        case Emit(event=TextDelta(text=text)):
            return says(text)
        case Emit(event=ToolStarted(call=each)):
            return starts(each.call_id, each.action)
        case Emit(event=ToolFinished() as event):
            return ended(event.call_id, event.ending.value, event.error.field if event.error else "")
        case Emit(event=ApprovalRequested() as event):
            return approval(event.call.call_id, event.cause.value)
        case Generate(window=window, withheld=withheld):
            return generate(*words(window.messages)[-tail:] if tail else (), withheld=withheld)
        case RunTool(call=each):
            return runs(each.call_id, each.action)
        case HostCall(call=each):
            return hosts(each.call_id, each.action)
        case AwaitRecord(call=each):
            return records(each.call_id)
        case StopModel():
            return stops_model()
        case CancelTool(call_id=call_id):
            return stops(call_id)
        case Suspend(pending=pending):
            return suspends(*(each.call.call_id for each in pending))
        case Finish(answer=answer):
            return finishes("".join(words((Message(role=Role.ASSISTANT, parts=answer.parts),))))
        case Fail(reason=reason, partial=partial):
            said_ = None if partial is None else _text(partial.parts)
            return fails(str(reason), said_)
        case Cancelled(partial=partial):
            return cancelled(None if partial is None else _text(partial.parts))
        case _:
            return Line(type(effect).__name__)


def _text(parts: Iterable[object]) -> str:
    contents = [getattr(part, "content", None) for part in parts]
    return "".join(each.text for each in contents if isinstance(each, Text))
