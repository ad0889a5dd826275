"""The actions of one turn, decided: which call runs, which asks the person, which is answered at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import assert_never

from orchestrator_svc import calls as calling
from orchestrator_svc import policy
from orchestrator_svc.calls import Calls, Running
from orchestrator_svc.conversation import ToolCall, ToolResult
from orchestrator_svc.effects import (
    AwaitRecord,
    CallEntry,
    CancelTool,
    Effect,
    EgressEntry,
    Emit,
    Ending,
    HostCall,
    InputRequested,
    Receipt,
    Request,
    RunTool,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from orchestrator_svc.errors import Reason
from orchestrator_svc.inputs import Done, Failed, Outcome
from orchestrator_svc.material import (
    Answered,
    ApprovalAnswer,
    Decision,
    FormAnswer,
    Order,
    Superseded,
)
from orchestrator_svc.policy import Offer
from orchestrator_svc.spending import Spending
from orchestrator_svc.tools.tool import Effect as EffectClass

_PROGRESS_CHARACTERS = 500
_CONFINED = Failed(
    reason=Reason.ACTION_FORBIDDEN,
    message="The arguments hold what must stay on these machines. Leave it out, or ask the person.",
)


class Actions:
    """Owns the calls of a turn. `done` is what an earlier run of the turn left: each call and its result."""

    def __init__(
        self,
        order: Order,
        offers: Mapping[str, Offer],
        spending: Spending,
        done: Iterable[tuple[ToolCall, ToolResult | None]],
    ) -> None:
        self._offers = offers
        self._spending = spending
        self._stands = policy.standing(order, offers)
        self._calls = Calls()
        self._calls.remember(done)

    @property
    def running(self) -> bool:
        """Whether a call is on its way."""
        return bool(self._calls.running)

    @property
    def pending(self) -> tuple[Request, ...]:
        """What the person is asked."""
        return tuple(self._calls.pending)

    @property
    def asked(self) -> bool:
        """Whether this step asked for anything."""
        return bool(self._calls.step)

    @property
    def stuck(self) -> bool:
        """Whether this step asked only for what was asked before."""
        return self.asked and not self._calls.fresh

    def results(self) -> tuple[ToolResult, ...]:
        """The answers to this step's calls, in their order; without those that wait."""
        return self._calls.results()

    def next_step(self) -> None:
        """The step is over."""
        self._calls.next_step()

    def allow(self, offers: Mapping[str, Offer]) -> None:
        """From here on only these may be called."""
        self._offers = offers

    def add(self, call: ToolCall) -> bool:
        """A call of this step. False when its id was used before in this turn."""
        return self._calls.add(call)

    def reopen(self, calls: Iterable[ToolCall]) -> None:
        """Calls of the step in which the turn stopped, still without a result."""
        self._calls.step = list(calls)
        self._calls.fresh = True

    def distrust(self) -> None:
        """From here on others may have written a part of what decides about calls."""
        self._stands = replace(self._stands, tainted=True)

    def consider(self, call: ToolCall, refused: Failed | None = None) -> Iterator[Effect]:
        """Run the call, ask the person, or answer it at once: a repetition, an unknown one, a broken one.

        `refused`: why a known one does not run.
        """
        if self._calls.repeats(call):
            return
        self._calls.fresh = True
        offer = self._offers.get(call.action)
        if offer is None:
            missing = f"There is no action {call.action[:64]!r}."
            yield from self._impossible(call, Failed(reason=Reason.ACTION_NOT_FOUND, message=missing))
        elif (broken := refused or _broken(call, offer)) is not None:
            yield from self._impossible(call, broken)
        elif policy.forbids(offer, call.arguments, self._stands):
            yield from self._impossible(call, _CONFINED)
        elif (cause := policy.asks(offer, call.arguments, self._stands)) is not None:
            request = calling.approval(call, offer, cause)
            self._calls.pending.append(request)
            yield Emit(event=request)
        else:
            yield from self._begin(call, offer)

    def recorded(self, call_id: str) -> Iterator[Effect]:
        """The ToolStarted of this call is durable: now it may run."""
        waiting = self._calls.running.get(call_id)
        if waiting is not None and not waiting.recorded:
            self._calls.running[call_id] = replace(waiting, recorded=True)
            yield self._run(waiting.call, waiting.offer)
            yield from _left(waiting.call, waiting.offer)

    def progressed(self, call_id: str, message: str, fraction: float | None) -> Iterator[Effect]:
        """A call has something to show."""
        if call_id in self._calls.running:
            shown = message[:_PROGRESS_CHARACTERS]
            yield Emit(event=ToolProgress(call_id=call_id, message=shown, fraction=fraction))

    def done(
        self, call_id: str, outcome: Outcome, duration: float, *, logged: bool
    ) -> Generator[Effect, None, bool]:
        """A call ended. With `logged` its ToolFinished is told by somebody else. False: nobody knows how."""
        running = self._calls.running.pop(call_id, None)
        if running is None:
            return True
        self._spending.tool_time(duration)
        if policy.taints(running.offer):
            self.distrust()
        certain = running.offer.effect is not EffectClass.EFFECT or not _timed_out(outcome)
        ending = _ending(outcome) if certain else Ending.IN_DOUBT
        yield from self._close(running.call, running.offer, outcome, ending, duration, logged=logged)
        return certain

    def wanted(self, call_id: str, question: str, form: str, duration: float) -> Iterator[Effect]:
        """A call needs an answer of the person. One with effects may not ask once it runs: it failed."""
        running = self._calls.running.pop(call_id, None)
        if running is None:
            return
        self._spending.tool_time(duration)
        if running.offer.effect is EffectClass.EFFECT:
            failed = Failed(reason=Reason.ACTION_FAILED, message="The action asked when it had to act.")
            yield from self._close(running.call, running.offer, failed, Ending.FAILED, duration)
            return
        request = InputRequested(
            input_id=f"input.{call_id}"[:64], call=running.call, question=question, form=form
        )
        self._calls.pending.append(request)
        yield Emit(event=request)

    def answered(self, answered: Answered) -> Iterator[Effect]:
        """The person answered what a call waited for."""
        call, offer = answered.call, self._offers.get(answered.call.action)
        match answered.answer:
            case ApprovalAnswer() as answer if offer is not None:
                yield from self._decided(call, offer, answer)
            case ApprovalAnswer():
                yield from self._refuse(call, Reason.ACTION_NOT_FOUND, "The action is not there any more.")
            case FormAnswer(declined=True):
                yield from self._refuse(call, Reason.ACTION_DENIED, "The person does not want to answer.")
            case FormAnswer(content_json=content):
                yield from self._close(call, offer, Done(content=content), Ending.DONE)
            case Superseded():
                yield from self._refuse(call, Reason.ACTION_DENIED, "The person went on without answering.")
            case _:
                assert_never(answered.answer)

    def stop(self) -> Iterator[Effect]:
        """Stop every call on its way, and say so."""
        for call_id, running in self._calls.running.items():
            yield CancelTool(call_id=call_id)
            stopped = Failed(reason=Reason.ACTION_CANCELLED, message="The turn ended while the action ran.")
            yield from self._close(running.call, running.offer, stopped, calling.stopped(running))
        self._calls.running = {}

    def _decided(self, call: ToolCall, offer: Offer, answer: ApprovalAnswer) -> Iterator[Effect]:
        if answer.decision is Decision.DENY:
            yield from self._refuse(call, Reason.ACTION_DENIED, "The person said no.")
        elif answer.arguments_sha256 != calling.digest(call.arguments):
            yield from self._refuse(call, Reason.APPROVAL_MISMATCH, "The approval names other arguments.")
        else:
            edited = answer.decision is Decision.EDIT
            call = replace(call, arguments=answer.edited_arguments) if edited else call
            broken = _broken(call, offer)
            if broken is None and policy.forbids(offer, call.arguments, self._stands):
                broken = _CONFINED
            yield from self._begin(call, offer) if broken is None else self._impossible(call, broken)

    def _begin(self, call: ToolCall, offer: Offer) -> Iterator[Effect]:
        waits = offer.effect is EffectClass.EFFECT
        self._calls.running[call.call_id] = Running(call=call, offer=offer, recorded=not waits)
        yield self._started(call, offer.agent, offer.effect)
        yield AwaitRecord(call=call) if waits else self._run(call, offer)
        if not waits:
            yield from _left(call, offer)

    def _run(self, call: ToolCall, offer: Offer) -> Effect:
        timeout = min(offer.timeout, self._spending.tool_time_left)
        return HostCall(call=call, timeout=timeout) if offer.hosted else RunTool(call=call, timeout=timeout)

    def _impossible(self, call: ToolCall, failed: Failed) -> Iterator[Effect]:
        """A call that cannot run is told like one that failed; nothing runs, so its class is NONE."""
        yield self._started(call, "", EffectClass.NONE)
        yield from self._close(call, None, failed, Ending.FAILED)

    def _refuse(self, call: ToolCall, reason: Reason, message: str) -> Iterator[Effect]:
        offer = self._offers.get(call.action)
        yield from self._close(call, offer, Failed(reason=reason, message=message), Ending.DENIED)

    def _started(self, call: ToolCall, agent: str, effect: EffectClass) -> Emit:
        step = self._spending.counters.steps
        return Emit(event=ToolStarted(call=call, agent=agent, effect=effect, step=step))

    def _close(
        self,
        call: ToolCall,
        offer: Offer | None,
        outcome: Outcome,
        ending: Ending,
        duration: float = 0.0,
        *,
        logged: bool = False,
    ) -> Iterator[Effect]:
        result, truncated = calling.result(call, outcome)
        self._calls.settle(call, result, final=calling.final(outcome))
        if not logged:
            yield Emit(event=_finished(result, outcome, ending, duration, truncated))
        agent = offer.agent if offer else ""
        yield Receipt(
            entry=CallEntry(
                call_id=call.call_id, action=call.action, agent=agent, ending=ending, duration=duration
            )
        )


def _left(call: ToolCall, offer: Offer) -> Iterator[Effect]:
    """The arguments of an action that is no business of the mesh alone went out with it."""
    if offer.effect is not EffectClass.NONE and not offer.hosted:
        content = f"arguments of {call.action}"
        size = len(call.arguments.encode("utf-8", "surrogatepass"))
        yield Receipt(entry=EgressEntry(destination=offer.agent, content=content, size=size))


def _broken(call: ToolCall, offer: Offer) -> Failed | None:
    fault = offer.schema.fault(call.arguments)
    if fault is None:
        return None
    return Failed(reason=Reason.ARGUMENTS_INVALID, message=fault.message, field=fault.field)


def _finished(
    result: ToolResult, outcome: Outcome, ending: Ending, duration: float, truncated: bool
) -> ToolFinished:
    return ToolFinished(
        call_id=result.call_id,
        action=result.action,
        ending=ending,
        content=result.content,
        error=outcome if isinstance(outcome, Failed) else None,
        sources=result.sources,
        next_actions=outcome.next_actions if isinstance(outcome, Done) else (),
        context_updates=outcome.context_updates if isinstance(outcome, Done) else (),
        background_tasks=outcome.background_tasks if isinstance(outcome, Done) else (),
        duration=duration,
        truncated=truncated,
    )


def _ending(outcome: Outcome) -> Ending:
    return Ending.DONE if isinstance(outcome, Done) else Ending.FAILED


def _timed_out(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.reason == Reason.ACTION_TIMEOUT
