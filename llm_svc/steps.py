"""The model steps of one turn on one stream: ask, relay, take the tools' results, ask again, or stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import assert_never

from chassis import failpoints, telemetry
from chassis.clock import Clock
from chassis.errors import ServiceError
from chassis.tasks import Tasks
from llm_svc import pricing
from llm_svc.ability import bounded, require_able
from llm_svc.attempts import Attempts
from llm_svc.catalogue import Catalogue, Choice
from llm_svc.errors import FrameUnexpected, ProviderGarbage
from llm_svc.events import Event, Started, StepDone, StepFailed
from llm_svc.frames import Cancel, Frame, Results, Start
from llm_svc.generation import (
    Activity,
    Delta,
    Doing,
    Finished,
    FinishReason,
    Message,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Request,
    Role,
    TextDelta,
    TextPart,
    TokenCount,
    ToolCall,
    Usage,
)
from llm_svc.line import Line
from llm_svc.response_cache import ResponseCache
from llm_svc.said import NOTHING, Said

log = telemetry.logger(__name__)


class Runs:
    """Serves runs over the catalogue's models."""

    def __init__(
        self,
        catalogue: Catalogue,
        clock: Clock,
        *,
        attempts: Attempts | None = None,
        cache: ResponseCache | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._attempts = attempts or Attempts(clock)
        self._cache = ResponseCache(clock, max_bytes=0) if cache is None else cache

    async def serve(self, frames: AsyncIterator[Frame]) -> AsyncGenerator[Event, None]:
        """What one run tells, from its Start to the end of its last step.

        Raises what refuses the run before a provider is asked; a failure after that is told as StepFailed.
        """
        start = await anext(frames, None)
        if not isinstance(start, Start):
            raise FrameUnexpected("the first frame opens the run")
        choice = await self._catalogue.resolve(start.request.model, start.request.placement)
        start = replace(start, request=bounded(start.request, choice.model))
        require_able(start.request, choice.model)
        if (kept := self._cache.find(start, choice.model.id)) is not None:
            for told in _again(choice, kept):
                yield told
            return
        pricing.require_affordable(start.request, choice.model, start.max_cost)
        substitutes = await self._substitutes(start, choice)
        line = Line(self._clock)
        async with Tasks() as tasks:
            run = _Run(start, (choice, *substitutes), line, tasks, self._attempts)
            running = tasks.spawn("generation", run.perform(frames))
            running.add_done_callback(lambda _: line.close())
            while (event := await line.take()) is not None:
                yield event
            await running
        if run.answer is not None:
            self._cache.keep(start, choice.model.id, run.answer)

    async def count(self, request: Request) -> TokenCount:
        """The tokens of a window, as its model counts them. Raises what `Catalogue.resolve` and the provider do."""
        choice = await self._catalogue.resolve(request.model, request.placement)
        return await choice.provider.count(replace(request, model=choice.native))

    async def _substitutes(self, start: Start, choice: Choice) -> list[Choice]:
        """The models that may answer if that one fails before its first token: none for one that was chosen."""
        if start.explicit:
            return []
        able = []
        for each in await self._catalogue.substitutes(choice, start.request.placement):
            try:
                request = bounded(start.request, each.model)
                require_able(request, each.model)
                pricing.require_affordable(request, each.model, start.max_cost)
            except ServiceError:
                continue
            able.append(each)
        return able


def _again(choice: Choice, kept: tuple[Part, ...]) -> Iterator[Event]:
    """A kept answer, said once more: nothing was used and it costs nothing."""
    yield Started(choice, from_cache=True)
    for part in kept:
        match part:
            case TextPart(text):
                yield TextDelta(text)
            case ReasoningPart(text, state):
                yield ReasoningDelta(text, state)
    yield StepDone(reason=FinishReason.STOP, usage=_KEPT, cost=0)


class _Run:
    """One run: its model, its growing window and the step that is on.

    ``choices`` are the model and those that may take its place before the first token. ``answer`` is what was
    said when the run was one whole step of the model itself.
    """

    def __init__(
        self, start: Start, choices: tuple[Choice, ...], line: Line, tasks: Tasks, attempts: Attempts
    ) -> None:
        self._choices = choices
        self._choice = choices[0]
        self._request = start.request
        self._line = line
        self._tasks = tasks
        self._attempts = attempts
        self._step: asyncio.Task[None] | None = None
        self._started = False
        self._cancelled = False
        self._answers: asyncio.Queue[Results | ServiceError | None] = asyncio.Queue(maxsize=1)
        self.answer: tuple[Part, ...] | None = None

    async def perform(self, frames: AsyncIterator[Frame]) -> None:
        self._tasks.spawn("generation frames", self._read(frames))
        self._tasks.spawn("generation progress", self._line.keep_alive())
        if len(self._choices) == 1:
            await self._start()
        first = said = await self._one_step()
        while said is not None and said.end and said.end.reason is FinishReason.TOOL_CALLS:
            answer = await self._answers.get()
            if isinstance(answer, ServiceError):
                raise answer
            if answer is None or not await self._take(answer, said):
                return
            said = await self._one_step()
        ended = first.end if first is not None and first is said else None
        if first and ended and ended.reason is FinishReason.STOP and self._choice is self._choices[0]:
            self.answer = first.parts()

    async def _start(self) -> None:
        """Say, once, which model answers."""
        if not self._started:
            self._started = True
            replaced = self._choice is not self._choices[0]
            failed = self._choices[0].model.id if replaced else ""
            await self._line.say(Started(self._choice, fallback_from=failed))

    async def _read(self, frames: AsyncIterator[Frame]) -> None:
        """The caller's frames, until the last one or a Cancel."""
        try:
            async for frame in frames:
                match frame:
                    case Results():
                        await self._answers.put(frame)
                    case Cancel():
                        return self._cancel()
                    case Start():
                        raise FrameUnexpected("a run is opened once")
                    case _:
                        assert_never(frame)
        except ServiceError as wrong:
            await self._answers.put(wrong)
        else:
            await self._answers.put(None)

    def _cancel(self) -> None:
        self._cancelled = True
        if self._step is not None:
            self._step.cancel()
        if self._answers.empty():
            self._answers.put_nowait(None)

    async def _take(self, answer: Results, said: Said) -> bool:
        """Let the window grow by the step and its results; False when the next step must not be asked."""
        if answer.messages is None and {result.call_id for result in answer.results} != said.calls():
            raise FrameUnexpected("results that answer other calls than those asked")
        answered = Message(role=Role.TOOL, parts=answer.results)
        window = answer.messages or (*self._request.messages, said.message(), answered)
        parameters = replace(self._request.parameters, tool_choice=answer.tool_choice)
        tools = self._request.tools if answer.tools is None else answer.tools
        self._request = replace(self._request, messages=window, parameters=parameters, tools=tools)
        try:
            pricing.require_affordable(self._request, self._choice.model, answer.max_cost)
        except ServiceError as refused:
            await self._line.say(StepFailed(error=refused, usage=NOTHING, cost=0))
            return False
        return True

    async def _one_step(self) -> Said | None:
        """Ask the model once. What it said when the step ended well, None when the run is over."""
        said = Said()
        self._line.doing = Doing(Activity.WORKING)
        if not self._cancelled:
            failpoints.reach("before_provider_call")
            self._step = self._tasks.spawn("model step", self._ask(said))
            await asyncio.wait({self._step})
        if self._cancelled and said.end is None:
            usage = said.used(self._request)
            await self._start()
            await self._line.say(StepDone(reason=None, usage=usage, cost=self._cost(usage)))
            return None
        assert self._step is not None
        self._step.result()
        return said if said.end else None

    async def _ask(self, said: Said) -> None:
        """Ask the model, then, while nothing was said, those that may take its place."""
        failures: list[ServiceError] = []
        for choice in (self._choice,) if self._started else self._choices:
            self._choice = choice
            failure = await self._relay(said)
            if failure is None:
                return
            failures.append(failure)
            if self._started:
                break
            log.warning("a model failed before its first token", model=choice.model.id, reason=failure.reason)
        if not self._started:  # none of them spoke: it is the model's own failure that is told
            self._choice = self._choices[0]
            await self._start()
            failures = failures[:1]
        usage = said.charged(self._request)
        await self._line.say(StepFailed(error=failures[-1], usage=usage, cost=self._cost(usage)))

    async def _relay(self, said: Said) -> ServiceError | None:
        """One model's step. What it failed with, if it did."""
        model = self._choice.model
        request = replace(bounded(self._request, model), model=self._choice.native)
        try:
            async with aclosing(self._attempts.generate(self._choice.provider, request)) as deltas:
                said.asked, said.reported = True, None
                async for delta in deltas:
                    await self._pass_on(delta, said)
            if said.end is None:
                raise ProviderGarbage("the provider ended without an end")
        except ServiceError as failure:
            return failure
        return None

    async def _pass_on(self, delta: Delta, said: Said) -> None:
        if not self._started and not isinstance(delta, Doing | Usage):
            await self._start()
        match delta:
            case TextDelta() | ReasoningDelta() | ToolCall():
                said.hear(delta)
                await self._line.say(delta)
            case Doing():
                self._line.doing = delta
            case Finished(reason):
                used = said.reported or said.used(self._request)
                end = StepDone(reason=reason, usage=used, cost=self._cost(used))
                await self._line.say(end)
                said.end = end
            case Usage():
                said.reported = delta
            case _:
                assert_never(delta)

    def _cost(self, usage: Usage) -> int:
        return pricing.cost(usage, self._choice.model.price)


_KEPT = Usage(input_tokens=0, output_tokens=0, estimated=True)  # no measure of the window it answered
