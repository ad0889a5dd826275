"""The calls of a turn: those that run, those that wait for the person, and what was answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256

from orchestrator_svc.conversation import ToolCall, ToolResult
from orchestrator_svc.effects import ApprovalRequested, Ending, Request
from orchestrator_svc.inputs import Done, Failed, Outcome
from orchestrator_svc.policy import Cause, Offer
from orchestrator_svc.tools.tool import RESULT_BYTES, Effect, canonical

REPEATED = "(The same as you asked before.) "


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A call on its way. `recorded` is False while its durable ToolStarted is awaited."""

    call: ToolCall
    offer: Offer
    recorded: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    result: ToolResult
    final: bool  # asking again would bring nothing else


@dataclass(kw_only=True, slots=True)
class Calls:
    """Bookkeeping of one turn's calls; decides nothing about them."""

    running: dict[str, Running] = field(default_factory=dict)
    pending: list[Request] = field(default_factory=list)
    step: list[ToolCall] = field(default_factory=list)
    fresh: bool = False
    _known: dict[tuple[str, str], _Known] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)

    def remember(self, done: Iterable[tuple[ToolCall, ToolResult | None]]) -> None:
        """Take in calls of an earlier run of the turn."""
        for call, result in done:
            self._ids.add(call.call_id)
            if result is not None:
                self._known[_key(call)] = _Known(result=result, final=not result.failed)

    def add(self, call: ToolCall) -> bool:
        """A call of this step. False when its id was used before in this turn."""
        new = call.call_id not in self._ids
        self._ids.add(call.call_id)
        self.step.append(call)
        return new

    def repeats(self, call: ToolCall) -> bool:
        """Whether the same was asked before in this turn, and is answered, runs or waits."""
        key = _key(call)
        known = self._known.get(key)
        under_way = [*(each.call for each in self.running.values()), *(each.call for each in self.pending)]
        return (known is not None and known.final) or any(_key(each) == key for each in under_way)

    def settle(self, call: ToolCall, result: ToolResult, *, final: bool) -> None:
        """A call was answered."""
        asked = next((each for each in self.step if each.call_id == call.call_id), call)
        self._known[_key(asked)] = _Known(result=result, final=final)  # the person may have edited it

    def results(self) -> tuple[ToolResult, ...]:
        """The answers to this step's calls, each under its own id; without those that wait."""
        found = ((call, self._known.get(_key(call))) for call in self.step)
        return tuple(_addressed(known.result, call) for call, known in found if known is not None)

    def next_step(self) -> None:
        """The step is over."""
        self.step = []
        self.fresh = False


def approval(call: ToolCall, offer: Offer, cause: Cause) -> ApprovalRequested:
    """The question to the person, bound to the exact arguments."""
    return ApprovalRequested(
        approval_id=f"approval.{call.call_id}"[:64],
        call=call,
        arguments_sha256=digest(call.arguments),
        effect=offer.effect,
        cause=cause,
    )


def digest(arguments: str) -> str:
    """What an approval is bound to: SHA-256, lower-case hex."""
    return sha256(arguments.encode()).hexdigest()


def result(call: ToolCall, outcome: Outcome) -> tuple[ToolResult, bool]:
    """The outcome as the model reads it, and whether it was cut to the limit."""
    match outcome:
        case Done(content=content, sources=sources):
            text, cut = _limited(content)
            return ToolResult(call_id=call.call_id, action=call.action, content=text, sources=sources), cut
        case Failed(message=message, field=field_, reason=reason):
            where = f" (argument {field_})" if field_ else ""
            content = f"Error {reason}{where}: {message}"
            return ToolResult(call_id=call.call_id, action=call.action, content=content, failed=True), False


def final(outcome: Outcome) -> bool:
    """Whether asking again would bring nothing else."""
    return isinstance(outcome, Done) or not outcome.retryable


def stopped(running: Running) -> Ending:
    """How a call ends that is stopped on its way."""
    in_doubt = running.offer.effect is Effect.EFFECT and running.recorded
    return Ending.IN_DOUBT if in_doubt else Ending.CANCELLED


def _key(call: ToolCall) -> tuple[str, str]:
    return call.action, canonical(call.arguments)


def _addressed(result_: ToolResult, call: ToolCall) -> ToolResult:
    if result_.call_id == call.call_id:
        return result_
    return replace(result_, call_id=call.call_id, content=REPEATED + result_.content)


def _limited(content: str) -> tuple[str, bool]:
    data = content.encode("utf-8", "replace")
    if len(data) <= RESULT_BYTES:
        return content, False
    return data[:RESULT_BYTES].decode("utf-8", "ignore"), True
