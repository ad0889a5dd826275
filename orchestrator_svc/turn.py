"""One turn, decided: inputs in, effects out. Never awaits, knows no clock and no other room.

A turn asks the model for a step, runs the actions that the step asks for, and asks again with their results,
until the model answers in words, something fails, the person stops it, or it has to wait for the person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias, assert_never

from orchestrator_svc import policy
from orchestrator_svc.actions import Actions
from orchestrator_svc.background import asked
from orchestrator_svc.choice import answering, choose
from orchestrator_svc.conversation import FinishReason, ToolCall, Usage, strictest
from orchestrator_svc.effects import (
    Answer,
    Cancelled,
    Effect,
    EgressEntry,
    Emit,
    Fail,
    Finish,
    Generate,
    ReasoningDelta,
    Receipt,
    Stage,
    StepEntry,
    StopModel,
    Suspend,
    TextDelta,
    TurnStarted,
)
from orchestrator_svc.errors import BROKE_OFF, Reason, TurnError
from orchestrator_svc.gauge import Gauge
from orchestrator_svc.inputs import (
    CancelRequested,
    Done,
    EffectRecorded,
    Elapsed,
    Failed,
    HostAnswered,
    Input,
    ModelStarted,
    Outcome,
    Reasoned,
    Started,
    StepFailed,
    StepFinished,
    Token,
    ToolAsked,
    ToolDone,
    ToolProgressed,
    ToolRequested,
    YieldRequested,
)
from orchestrator_svc.material import (
    Answered,
    ModelChoice,
    ModelFacts,
    Order,
    Purpose,
    Resumption,
)
from orchestrator_svc.policy import Offer
from orchestrator_svc.prompt import ToolSpec, system_text
from orchestrator_svc.selection import Limits, Selection
from orchestrator_svc.spending import LIMITS, Spending, estimated
from orchestrator_svc.tools.tool import Found
from orchestrator_svc.transcript import Transcript
from orchestrator_svc.window import (
    Fitted,
    Report,
    Window,
    admitted,
    budget_tokens,
    continues,
    demanded,
    fit,
    placement,
)

_REFITS = 2  # a window that a model finds too long is made smaller so often
_TIGHTER = 1.5
_TELLS_TIME = "current_time"
_Last: TypeAlias = Callable[[], Fail | Cancelled]


class Turn:
    """The machine of one turn. What it is told after its end (`over`) changes nothing."""

    def __init__(self, order: Order, offers: Iterable[Offer], limits: Limits | None = None) -> None:
        resumed = order.resumption or Resumption()
        order = replace(order, material=asked(order.material, order.purpose))
        self._order = order
        self._offers = policy.offered(offers, order)
        self._limits = limits or Limits()
        self._selection = Selection(self._offers)
        self._shown = 0  # steps of this turn that the selection has seen
        self._tools: tuple[ToolSpec, ...] = ()  # what the model is offered in the step that runs
        self._spending = Spending(order.budget, resumed.counters)
        self._transcript = Transcript(resumed.steps)
        self._actions = Actions(order, self._offers, self._spending, self._transcript.calls())
        self._placement = demanded(order.material)
        self._choice: ModelChoice | None = resumed.model
        self._model: ModelFacts | None = None
        self._models: dict[str, ModelFacts] = {}
        self._gauge = Gauge()
        self._fitted: Fitted | None = None
        self._sent: Window | None = None  # what the open stream holds
        self._announced = False
        self._generating = False
        self._asked = False  # the model of the open stream was asked
        self._reads = False  # the step that runs is at its model
        self._last: _Last | None = None  # comes when a stopped step has said what it used
        self._yielding = False
        self._followed = False  # this step has calls that the model did not ask for
        self._refits = 0
        self.over = False

    @property
    def stage(self) -> Stage:
        """What it is doing."""
        if self._generating:
            return Stage.MODEL
        return Stage.TOOL if self._actions.running else Stage.UNKNOWN

    def find(self, query: str, limit: int) -> Found:
        """Search the actions that the turn may use. What the model finds it is offered from its next step on."""
        return self._selection.find(query, limit)

    def receive(self, told: Input) -> Iterator[Effect]:
        """Tell the turn something; what it asks for then, in order. Read it to its end before the next.

        TurnStarted comes once, before every other event.
        """
        for effect in self._decide(told):
            if isinstance(effect, Emit | Suspend | Finish) and not self._announced:
                yield self._announcement()
            yield effect

    def _decide(self, told: Input) -> Iterator[Effect]:
        if self.over:
            return
        if self._last is not None:
            yield from self._last_words(told, self._last)
            return
        match told:
            case Started(models=models):
                yield from self._start(models)
            case ModelStarted():
                yield from self._model_started(told)
            case Token(text=text):
                yield from self._heard(text.replace("\0", ""))
            case Reasoned(text=text, provider_state=state):
                self._transcript.think(text, state)
                if text:
                    yield Emit(event=ReasoningDelta(text=text))
            case ToolRequested(call=call):
                yield from self._requested(call, self._selection.refusal(call.action))
            case StepFinished():
                yield from self._step_finished(told)
            case StepFailed():
                yield from self._step_failed(told)
            case ToolDone(call_id=call_id, outcome=outcome, duration=duration):
                yield from self._tool_done(call_id, outcome, duration, logged=False)
            case HostAnswered(call_id=call_id, outcome=outcome, duration=duration):
                yield from self._tool_done(call_id, outcome, duration, logged=True)
            case ToolAsked(call_id=call_id, question=question, form=form, duration=duration):
                yield from self._actions.wanted(call_id, question, form, duration)
                yield from self._advance()
            case ToolProgressed(call_id=call_id, message=message, fraction=fraction):
                yield from self._actions.progressed(call_id, message, fraction)
            case EffectRecorded(call_id=call_id):
                yield from self._actions.recorded(call_id)
            case CancelRequested():
                yield from self._cancel()
            case YieldRequested():
                self._yielding = True
            case Elapsed():
                yield from self._limit(Reason.TURN_TIMEOUT)
            case _:
                assert_never(told)

    # -- beginning ---------------------------------------------------------------------------------------

    def _start(self, models: tuple[ModelFacts, ...]) -> Iterator[Effect]:
        if self._order.purpose is not Purpose.ACTION:
            try:
                self._choose(models)
                if self._order.resumption is not None:  # TurnStarted may come before the next step's fit
                    self._fitted = self._fit()
            except TurnError as error:
                yield from self._fail(error.reason, error.message, error.retryable, Stage.WINDOW)
                return
        if self._order.resumption is not None:
            yield from self._resume(self._order.resumption.answers)
        elif self._order.action is not None:
            yield from self._act(self._order.action)
        if not self.over:
            yield from self._advance()

    def _choose(self, models: tuple[ModelFacts, ...]) -> None:
        self._models = {model.name: model for model in models}
        self._choice, self._model = choose(models, self._order.preferences, self._placement)
        seen = admitted(self._order.material, local=self._model.local)
        self._order, self._placement = replace(self._order, material=seen), placement(seen)
        offers = self._offers if self._model.tools else {}
        self._selection = Selection(offers, self._limits, self._model.context_tokens)
        self._selection.see(seen.messages)
        self._offers = self._selection.allowed
        self._actions.allow(self._offers)

    def _act(self, call: ToolCall) -> Iterator[Effect]:
        """The given call of a turn without a model: one that cannot run ends the turn."""
        offer = self._offers.get(call.action)
        fault = offer.schema.fault(call.arguments) if offer else None
        if offer is None:
            yield from self._fail(Reason.ACTION_NOT_FOUND, "No such action.", False, Stage.TOOL)
        elif fault is not None:
            yield from self._fail(Reason.ARGUMENTS_INVALID, fault.message, False, Stage.TOOL)
        else:
            yield from self._requested(call)

    def _resume(self, answers: tuple[Answered, ...]) -> Iterator[Effect]:
        self._actions.reopen(call for call, result in self._transcript.calls() if result is None)
        for answered in answers:
            yield from self._actions.answered(answered)

    # -- a model step ------------------------------------------------------------------------------------

    def _fit(self) -> Fitted:
        assert self._model is not None
        self._selection.see(self._transcript.steps[self._shown :])
        self._shown = len(self._transcript.steps)
        return fit(
            system=system_text(self._order.purpose),
            tools=tuple(offer.spec for offer in self._selection.offered),
            material=self._order.material,
            steps=self._transcript.steps,
            budget=budget_tokens(self._model, self._order.parameters),
            gauge=self._gauge,
            tells_time=_TELLS_TIME not in self._offers and self._order.purpose is Purpose.ANSWER,
        )

    def _generate(self) -> Iterator[Effect]:
        assert self._choice is not None
        try:
            self._fitted = fitted = self._fit()
        except TurnError as error:
            yield from self._fail(error.reason, error.message, error.retryable, Stage.WINDOW)
            return
        results, stuck = self._actions.results(), self._actions.stuck
        withheld = not self._offers or stuck or self._spending.last_step
        opens = self._sent is None
        refitted = self._followed or not continues(self._sent, fitted.window)
        tools = tuple(offer.spec for offer in self._selection.offered)
        retooled, self._tools = not opens and tools != self._tools, tools
        self._followed = False
        self._spending.step()
        self._actions.next_step()
        self._generating, self._reads, self._sent = True, not opens, fitted.window
        yield Generate(
            step=self._spending.counters.steps,
            choice=self._choice,
            window=fitted.window,
            tools=tools,
            results=() if opens else results,
            opens=opens,
            refitted=not opens and refitted,
            retooled=retooled,
            withheld=withheld,
            parameters=self._order.parameters,
            placement=self._placement,
            max_cost_micro_usd=self._spending.cost_left,
        )
        self._asked = self._asked and not opens
        yield from self._left()

    def _left(self) -> Iterator[Effect]:
        """The window goes to a model outside the mesh, with each step anew."""
        if self._asked and self._choice is not None and self._sent is not None:
            destination = self._choice.provider or self._choice.model
            yield Receipt(entry=EgressEntry(destination=destination, content="prompt", size=self._sent.size))

    def _model_started(self, told: ModelStarted) -> Iterator[Effect]:
        assert self._choice is not None
        self._choice = answering(self._choice, told, self._models.get(told.model))
        self._asked = not told.local and not told.from_cache
        self._reads = not told.from_cache
        if not self._announced:
            yield self._announcement()
        yield from self._left()

    def _heard(self, text: str) -> Iterator[Effect]:
        if text:
            self._transcript.hear(text)
            yield Emit(event=TextDelta(text=text))

    def _step_finished(self, told: StepFinished) -> Iterator[Effect]:
        self._generating = False
        self._correct(told)
        yield self._charge(told.usage, told.duration, told.reason)
        if self._actions.asked:
            yield from self._advance()
        elif not self._transcript.text:
            filtered = told.reason is FinishReason.CONTENT_FILTER
            reason = Reason.PROVIDER_REFUSED if filtered else Reason.PROVIDER_GARBAGE
            yield from self._fail(reason, "The model gave no answer.", not filtered, Stage.MODEL)
        else:
            self._transcript.close_step()
            yield from self._finish(told.reason)

    def _correct(self, told: StepFinished) -> None:
        """Learn from a step that answered; one that asked for actions may have read another, shorter prompt."""
        if self._fitted is not None and not told.usage.estimated and not self._actions.asked:
            guessed = self._fitted.report.window_tokens
            self._gauge = self._gauge.corrected(guessed=guessed, reported=told.usage.input_tokens)

    def _step_failed(self, told: StepFailed) -> Iterator[Effect]:
        self._sent = None  # the next step opens a new stream
        if self._fitted is not None and not self._generating:
            return
        self._generating = False
        yield from self._charge_broken(told)
        too_long = told.reason == Reason.CONTEXT_TOO_LONG and self._transcript.step_is_empty
        if too_long and self._refits < _REFITS and not self._actions.asked:
            self._refits += 1
            self._gauge = Gauge(scale=self._gauge.scale * _TIGHTER)
            yield from self._generate()
            return
        broke_off = told.reason in BROKE_OFF and bool(self._transcript.text)
        reason = Reason.PARTIAL if broke_off else told.reason
        yield from self._fail(reason, told.message, told.retryable, Stage.MODEL)

    def _charge(self, usage: Usage, duration: float, reason: FinishReason) -> Receipt:
        self._spending.usage(usage)
        model = self._choice.model if self._choice else ""
        return Receipt(entry=StepEntry(model=model, usage=usage, duration=duration, reason=reason))

    def _charge_broken(self, told: StepFailed) -> Iterator[Effect]:
        """What nobody could tell is counted: the prompt and what was said, once the step was at its model."""
        usage = told.usage or Usage()
        if told.usage is None and self._reads and self._fitted and self._choice:
            written = sum(self._gauge.content(part.content) for part in self._transcript.step)
            usage = estimated(self._choice, self._fitted.report.window_tokens, written)
        if usage != Usage():
            yield self._charge(usage, 0.0, FinishReason.UNKNOWN)

    # -- actions -----------------------------------------------------------------------------------------

    def _requested(self, call: ToolCall, refused: Failed | None = None) -> Iterator[Effect]:
        over = self._spending.over_call() if self._order.action is None else None
        self._transcript.ask(call)
        if not self._actions.add(call):
            yield from self._fail(
                Reason.PROVIDER_GARBAGE, "The model used one id for two actions.", True, Stage.MODEL
            )
        elif over is not None:
            yield from self._limit(over)
        else:
            self._spending.call()
            yield from self._actions.consider(call, refused)

    def _tool_done(
        self, call_id: str, outcome: Outcome, duration: float, *, logged: bool
    ) -> Iterator[Effect]:
        certain = yield from self._actions.done(call_id, outcome, duration, logged=logged)
        if certain:
            yield from self._follow(call_id, outcome)
            yield from self._advance()
        else:
            message = "An action may or may not have happened. Check before you try again."
            yield from self._fail(Reason.EFFECT_IN_DOUBT, message, False, Stage.TOOL)

    def _follow(self, call_id: str, outcome: Outcome) -> Iterator[Effect]:
        """Run what an action proposes to run next, as if the model had asked for it, but for its trust."""
        if self._order.purpose is Purpose.ACTION or not isinstance(outcome, Done):
            return
        for number, proposed in enumerate(outcome.next_actions, 1):
            if proposed.action in self._offers and not self.over:
                self._followed = True
                self._actions.distrust()
                call = ToolCall(
                    call_id=f"{call_id[:56]}.next{number}",
                    action=proposed.action,
                    arguments=proposed.arguments or "{}",
                )
                yield from self._requested(call)

    def _advance(self) -> Iterator[Effect]:
        """Go on when nothing is on its way any more: the next step waits for every action."""
        if self._generating or self._actions.running or self.over:
            return
        self._transcript.answer(self._actions.results())
        if self._actions.pending:
            yield from self._suspend()
        elif self._order.purpose is Purpose.ACTION:
            yield from self._finish(FinishReason.STOP)
        elif self._yielding:
            yield from self._suspend()
        elif (limit := self._spending.over_step()) is not None:
            yield from self._limit(limit)
        else:
            yield from self._generate()

    # -- ending ------------------------------------------------------------------------------------------

    def _announcement(self) -> Emit:
        self._announced = True
        report = self._fitted.report if self._fitted else Report()
        return Emit(
            event=TurnStarted(
                attempt=self._order.attempt,
                answer_id=self._order.answer_id,
                model=self._choice,
                window=report,
            )
        )

    def _suspend(self) -> Iterator[Effect]:
        self.over = True
        yield Suspend(
            pending=tuple(self._actions.pending),
            resumption=Resumption(
                counters=self._spending.counters,
                steps=self._transcript.steps,
                text=self._transcript.text,
                model=self._choice,
            ),
        )

    def _finish(self, reason: FinishReason) -> Iterator[Effect]:
        self.over = True
        yield Finish(answer=self._answer(reason, partial=False), usage=self._spending.counters.usage)

    def _limit(self, reason: Reason) -> Iterator[Effect]:
        retryable = reason is Reason.TURN_TIMEOUT
        yield from self._fail(reason, LIMITS[reason], retryable, self.stage)

    def _fail(self, reason: str, message: str, retryable: bool, stage: Stage) -> Iterator[Effect]:
        yield from self._stop(
            lambda: Fail(
                reason=reason,
                message=message,
                retryable=retryable,
                stage=stage,
                partial=self._partial(),
                usage=self._spending.counters.usage,
            )
        )

    def _cancel(self) -> Iterator[Effect]:
        yield from self._stop(lambda: Cancelled(partial=self._partial(), usage=self._spending.counters.usage))

    def _stop(self, last: _Last) -> Iterator[Effect]:
        """Stop all that is on its way, and say so; end once a model step has said what it used."""
        if self._generating:
            yield StopModel()
        yield from self._actions.stop()
        if self._generating:
            self._last = last
        else:
            self.over = True
            yield last()

    def _last_words(self, told: Input, last: _Last) -> Iterator[Effect]:
        """After the turn was stopped: what its last step used. What it still says is not heard any more."""
        if isinstance(told, ModelStarted):
            yield from self._model_started(told)
        elif isinstance(told, StepFinished):
            yield self._charge(told.usage, told.duration, told.reason)
        elif isinstance(told, StepFailed):
            yield from self._charge_broken(told)
        if isinstance(told, StepFinished | StepFailed):
            self.over = True
            yield last()

    def _partial(self) -> Answer | None:
        answer = self._answer(FinishReason.UNKNOWN, partial=True)
        return answer if answer.parts else None

    def _answer(self, reason: FinishReason, *, partial: bool) -> Answer:
        return Answer(
            id=self._order.answer_id,
            parts=self._transcript.parts(),
            model=self._choice.model if self._choice else "",
            finish_reason=reason,
            partial=partial,
            placement=strictest(self._placement),
        )
