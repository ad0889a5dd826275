"""Running one turn: performs what its machine asks for, and tells it what came of it.

One TaskGroup holds everything a turn starts: its model stream, its actions, its clocks. When the turn is
over, or its stream breaks, all of it is cancelled, and nothing outlives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, assert_never

from chassis import failpoints, telemetry
from chassis.clock import Clock
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.conversation import ToolCall, Usage
from orchestrator_svc.effects import (
    AwaitRecord,
    CallEntry,
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
    Stage,
    StepEntry,
    StopModel,
    Suspend,
    WindowEntry,
)
from orchestrator_svc.errors import PeerFailed, Reason
from orchestrator_svc.generation import Alive, ModelFrame, Models, Steps
from orchestrator_svc.inputs import (
    Done,
    Elapsed,
    Failed,
    HostAnswered,
    Input,
    Outcome,
    Started,
    StepFailed,
    StepFinished,
    ToolAsked,
    ToolDone,
    ToolProgressed,
)
from orchestrator_svc.material import Order, Purpose
from orchestrator_svc.outbox import Outbox, Progress
from orchestrator_svc.tools.tool import Effect as ToolEffect
from orchestrator_svc.tools.tool import Question, Setting, Tool, ToolFailure
from orchestrator_svc.turn import Turn
from orchestrator_svc.window import admitted

log = telemetry.logger(__name__)

PROGRESS_SECONDS = 10.0
FROZEN_SECONDS = 3 * PROGRESS_SECONDS
LAST_WORDS = 0.75  # seconds a stopped model step has to say what it used; context_svc waits 2


@dataclass(frozen=True, kw_only=True, slots=True)
class NewGrant:
    """Fresh grants to act for the person, in place of the old ones: for llm_svc, and for media_svc."""

    grant: str
    media_grant: str = ""


Command: TypeAlias = Input | NewGrant


class Run:
    """One run of one turn. Its frames leave through `outbox`, which is closed at the end."""

    def __init__(
        self, turn: Turn, order: Order, *, models: Models, catalogue: Catalogue, clock: Clock, outbox: Outbox
    ) -> None:
        self._turn = turn
        self._order = order
        self._models = models
        self._catalogue = catalogue
        self._clock = clock
        self._outbox = outbox
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._actions: dict[str, tuple[asyncio.Task[None], ...]] = {}
        self._began = self._spoke = self._heard = clock.monotonic()
        self._step_began = self._began
        self._window_time = 0.0
        self._steps: Steps | None = None
        self._model: asyncio.Task[None] | None = None

    async def perform(self, commands: AsyncIterator[Command]) -> None:
        """Run the turn to its end. Raises an ExceptionGroup of what broke the stream of commands."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for work in (
                    self._listen(commands),
                    self._elapse(),
                    self._beat(),
                    self._watch(),
                    self._start(),
                ):
                    self._spawn(work)
                await self._over.wait()
                for task in tuple(self._tasks):
                    if not task.cancelling():  # else what a stopped action tells its server is cut off
                        task.cancel()
        finally:
            self._outbox.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self, told: Input) -> None:
        """Tell the machine something and perform what it asks for."""
        asked = self._clock.monotonic()
        for effect in self._turn.receive(told):
            if isinstance(effect, Generate):  # the machine made a window to ask for it
                self._window_time += self._clock.monotonic() - asked
            self._perform(effect)
            asked = self._clock.monotonic()
        if self._turn.over:
            self._over.set()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Receipt(entry=CallEntry() as entry):
                self._audit(entry)
                self._send(effect)
            case Receipt(entry=StepEntry()):
                self._send(Receipt(entry=WindowEntry(duration=self._window_time)))
                self._window_time = 0.0
                self._send(effect)
            case Emit() | Receipt() | Finish() | Fail() | Cancelled():
                self._send(effect)
            case Suspend():
                self._send(self._timed(effect))
            case HostCall(call=call, timeout=timeout):
                self._send(effect)
                self._actions[call.call_id] = (self._spawn(self._expire(call, timeout, hosted=True)),)
            case RunTool(call=call, timeout=timeout):
                running = self._spawn(self._run_tool(call))
                self._actions[call.call_id] = (running, self._spawn(self._expire(call, timeout)))
            case CancelTool(call_id=call_id):
                self._end_action(call_id)
            case Generate(opens=opens):
                self._heard = self._step_began = self._clock.monotonic()
                work = self._generate(effect) if opens else self._go_on(effect)
                task = self._spawn(work)
                self._model = task if opens else self._model
            case StopModel():
                self._spawn(self._stop_model())
            case AwaitRecord():
                pass  # context_svc answers the ToolStarted before it with EffectRecorded
            case _:
                assert_never(effect)

    def _send(
        self, frame: Emit | Receipt | HostCall | Suspend | Finish | Fail | Cancelled | Progress
    ) -> None:
        self._spoke = self._clock.monotonic()
        self._outbox.put(frame)

    def _audit(self, entry: CallEntry) -> None:
        """One line for each action that ended: never its arguments or its result."""
        log.info(
            "action",
            turn_id=self._order.turn_id,
            action=entry.action if self._catalogue.get(entry.action) else "unknown",
            agent=entry.agent,
            outcome=entry.ending.value,
            ms=round(entry.duration * 1000, 1),
        )

    def _timed(self, suspend: Suspend) -> Suspend:
        used = suspend.resumption.counters
        counters = replace(used, time=used.time + self._clock.monotonic() - self._began)
        return replace(suspend, resumption=replace(suspend.resumption, counters=counters))

    # -- what the turn is told from outside --------------------------------------------------------------

    async def _start(self) -> None:
        if self._order.purpose is Purpose.ACTION:
            self._tell(Started())
            return
        try:
            models = await self._models.catalogue([wish.model for wish in self._order.preferences])
        except PeerFailed as error:
            self._tell(_broken(error))
        else:
            self._tell(Started(models=models))

    async def _listen(self, commands: AsyncIterator[Command]) -> None:
        async for told in commands:
            if isinstance(told, NewGrant):
                self._order = replace(self._order, grant=told.grant, media_grant=told.media_grant)
            elif isinstance(told, HostAnswered):
                self._end_action(told.call_id)
                self._tell(told)
            else:
                self._tell(told)

    async def _elapse(self) -> None:
        used = self._order.resumption.counters.time if self._order.resumption else 0.0
        await self._clock.sleep(self._order.budget.max_time - used)
        self._tell(Elapsed())

    async def _beat(self) -> None:
        """Say that the turn is alive when it has said nothing for a while."""
        while True:
            await self._clock.sleep(max(0.001, self._spoke + PROGRESS_SECONDS - self._clock.monotonic()))
            if self._clock.monotonic() - self._spoke >= PROGRESS_SECONDS:
                self._send(Progress(stage=self._turn.stage))

    async def _watch(self) -> None:
        """End a model step that gave no sign of life for three of its beats."""
        while True:
            await self._clock.sleep(max(0.001, self._heard + FROZEN_SECONDS - self._clock.monotonic()))
            quiet = self._clock.monotonic() - self._heard >= FROZEN_SECONDS
            if quiet and self._turn.stage is Stage.MODEL:
                frozen = "The model gave no sign of life for 30 seconds."
                self._let_go()
                self._tell(StepFailed(reason=Reason.FROZEN, message=frozen, retryable=True))
            elif quiet:
                self._heard = self._clock.monotonic()

    # -- the model ---------------------------------------------------------------------------------------

    async def _generate(self, step: Generate) -> None:
        try:
            async with self._models.open(step, self._order) as self._steps:
                async for frame in self._steps:
                    await self._outbox.room()
                    self._take(frame)
            raise PeerFailed(Reason.PEER_UNAVAILABLE, "the stream of model steps ended early")
        except PeerFailed as error:
            self._tell(_broken(error))

    async def _go_on(self, step: Generate) -> None:
        assert self._steps is not None
        try:
            await self._steps.go_on(step)
        except PeerFailed as error:
            self._tell(replace(_broken(error), usage=Usage()))  # its model was not asked

    async def _stop_model(self) -> None:
        """Stop the step; one that does not say then what it used is let go."""
        if self._steps is not None:
            with suppress(PeerFailed, TimeoutError):  # what its stream still holds is read
                async with asyncio.timeout(LAST_WORDS):
                    await self._steps.stop()
            await self._clock.sleep(LAST_WORDS)
        self._let_go()
        self._tell(StepFailed(reason=Reason.FROZEN, message="The model did not stop."))

    def _let_go(self) -> None:
        if self._model is not None:
            self._model.cancel()

    def _take(self, frame: ModelFrame) -> None:
        self._heard = self._clock.monotonic()
        match frame:
            case Alive():
                pass
            case StepFinished():
                self._tell(replace(frame, duration=self._heard - self._step_began))
            case _:
                self._tell(frame)

    # -- actions -----------------------------------------------------------------------------------------

    async def _run_tool(self, call: ToolCall) -> None:
        began = self._clock.monotonic()
        try:
            failpoints.reach("before_tool_side_effect")
            outcome = await self._outcome(call)
            failpoints.reach("after_tool_side_effect_before_record")
        except Question as asked:
            told: Input = ToolAsked(
                call_id=call.call_id,
                question=asked.message,
                form=asked.form,
                duration=self._clock.monotonic() - began,
            )
        else:
            took = self._clock.monotonic() - began
            told = ToolDone(call_id=call.call_id, outcome=outcome, duration=took)
        self._tell(told)
        self._end_action(call.call_id)

    async def _outcome(self, call: ToolCall) -> Outcome:
        tool = self._catalogue.get(call.action)
        if tool is None:
            return Failed(reason=Reason.ACTION_NOT_FOUND, message="No such action.")
        try:
            output = await tool.run(call.arguments, self._setting(call, tool))
        except Question:
            raise
        except ToolFailure as error:
            return Failed(
                reason=error.reason, message=error.message, field=error.field, retryable=error.retryable
            )
        except Exception as error:  # noqa: BLE001 - an action's fault is a result of the turn, not its end
            log.error("action broke", error=error, action=call.action)
            return Failed(reason=Reason.ACTION_FAILED, message="The action broke.")
        return Done(
            content=output.content,
            sources=output.sources,
            next_actions=output.next_actions,
            context_updates=output.context_updates,
            background_tasks=output.background_tasks,
        )

    def _setting(self, call: ToolCall, tool: Tool[Any]) -> Setting:
        """What the action may know: of the facts only those that it declares, and that may go where it goes."""
        declared = [fact for fact in self._order.material.facts if fact.key in tool.context_keys]
        material = admitted(self._order.material, local=tool.effect is ToolEffect.NONE)
        given = {fact.key: fact.value_json for fact in declared if fact in material.facts}
        return Setting(
            now_us=self._clock.now_us(),
            manner=material.manner,
            facts=given,
            withheld=frozenset(fact.key for fact in declared) - given.keys(),
            progress=lambda message, fraction: self._tell(
                ToolProgressed(call_id=call.call_id, message=message, fraction=fraction)
            ),
            find=self._turn.find,
        )

    async def _expire(self, call: ToolCall, seconds: float, *, hosted: bool = False) -> None:
        await self._clock.sleep(seconds)
        failed = Failed(reason=Reason.ACTION_TIMEOUT, message="The action took too long.", retryable=True)
        done = HostAnswered if hosted else ToolDone
        for task in self._actions.get(call.call_id, ())[:-1]:
            task.cancel()
        self._actions.pop(call.call_id, None)
        self._tell(done(call_id=call.call_id, outcome=failed, duration=seconds))

    def _end_action(self, call_id: str) -> None:
        for task in self._actions.pop(call_id, ()):
            if task is not asyncio.current_task():
                task.cancel()


def _broken(error: PeerFailed) -> StepFailed:
    return StepFailed(reason=error.reason, message=error.message, retryable=error.retryable)
