"""The model steps of one turn on one stream: ask, relay, take the tools' results, ask again, or stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

from chassis import failpoints
from chassis.clock import Clock
from chassis.errors import ServiceError
from chassis.tasks import Tasks
from llm_svc import pricing
from llm_svc.catalogue import Catalogue, Choice
from llm_svc.errors import ContextTooLong, FrameUnexpected, ParameterUnsupported, ProviderGarbage
from llm_svc.events import Event, Started, StepDone, StepFailed
from llm_svc.generation import (
    Activity,
    Delta,
    Doing,
    Finished,
    FinishReason,
    ImagePart,
    Message,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Request,
    Role,
    TextDelta,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from llm_svc.line import Line
from llm_svc.tokens import estimate, estimate_text

SURELY_TOO_LONG = 3  # an estimate is never that far off; what is nearer the limit the provider decides


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Opens a run: the first step's request, and what it may cost at worst in micro-USD."""

    request: Request
    max_cost: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Answers the calls of the last step; ``messages`` replaces the whole window when it was fitted anew."""

    results: tuple[ToolResult, ...]
    messages: tuple[Message, ...] | None = None
    tool_choice: ToolChoice = ToolChoice.AUTO
    max_cost: int | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stops the model."""


Frame: TypeAlias = Start | Results | Cancel


class Runs:
    """Serves runs over the catalogue's models."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock

    async def serve(self, frames: AsyncIterator[Frame]) -> AsyncGenerator[Event, None]:
        """What one run tells, from its Start to the end of its last step.

        Raises what refuses the run before a provider is asked; a failure after that is told as StepFailed.
        """
        start = await anext(frames, None)
        if not isinstance(start, Start):
            raise FrameUnexpected("the first frame opens the run")
        choice = await self._catalogue.resolve(start.request.model, start.request.placement)
        request = replace(start.request, model=choice.model.id)
        _require_able(request, choice)
        pricing.require_affordable(request, choice.model, start.max_cost)
        line = Line(self._clock)
        async with Tasks() as tasks:
            running = tasks.spawn("generation", _Run(choice, request, line, tasks).perform(frames))
            running.add_done_callback(lambda _: line.close())
            while (event := await line.take()) is not None:
                yield event
            await running


def _require_able(request: Request, choice: Choice) -> None:
    model = choice.model
    if request.parameters.json_schema is not None and not model.json_schema:
        raise ParameterUnsupported("json_schema", metadata={"parameter": "json_schema"})
    pictures = any(isinstance(part, ImagePart) for message in request.messages for part in message.parts)
    if pictures and not model.vision:
        raise ParameterUnsupported("images", metadata={"parameter": "images"})
    if estimate(request).tokens > SURELY_TOO_LONG * model.context_tokens:
        raise ContextTooLong


@dataclass(slots=True)
class _Said:
    """What a step has said so far, as the parts of one assistant message."""

    parts: list[Part] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    end: StepDone | None = None

    def message(self) -> Message:
        whole = "".join(self.text)
        parts: list[Part] = [TextPart(whole)] if whole else []
        return Message(role=Role.ASSISTANT, parts=(*parts, *self.parts))

    def usage(self, request: Request) -> Usage:
        """An estimate, for a step that did not get to report its own."""
        written = estimate_text("".join(self.text)) + estimate_text("".join(self.thought))
        return Usage(input_tokens=estimate(request).tokens, output_tokens=written, estimated=True)


class _Run:
    """One run: its model, its growing window and the step that is on."""

    def __init__(self, choice: Choice, request: Request, line: Line, tasks: Tasks) -> None:
        self._choice = choice
        self._request = request
        self._line = line
        self._tasks = tasks
        self._step: asyncio.Task[None] | None = None
        self._cancelled = False
        self._answers: asyncio.Queue[Results | ServiceError | None] = asyncio.Queue(maxsize=1)

    async def perform(self, frames: AsyncIterator[Frame]) -> None:
        self._tasks.spawn("generation frames", self._read(frames))
        self._tasks.spawn("generation progress", self._line.keep_alive())
        await self._line.say(Started(self._choice))
        said: _Said | None = await self._one_step()
        while said is not None:
            answer = await self._answers.get()
            if isinstance(answer, ServiceError):
                raise answer
            if answer is None or not await self._take(answer, said):
                return
            said = await self._one_step()

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

    async def _take(self, answer: Results, said: _Said) -> bool:
        """Let the window grow by the step and its results; False when the next step must not be asked."""
        asked = {part.id for part in said.parts if isinstance(part, ToolCall)}
        if answer.messages is None and {result.call_id for result in answer.results} != asked:
            raise FrameUnexpected("results that answer other calls than those asked")
        answered = Message(role=Role.TOOL, parts=answer.results)
        window = answer.messages or (*self._request.messages, said.message(), answered)
        parameters = replace(self._request.parameters, tool_choice=answer.tool_choice)
        self._request = replace(self._request, messages=window, parameters=parameters)
        try:
            pricing.require_affordable(self._request, self._choice.model, answer.max_cost)
        except ServiceError as refused:
            await self._line.say(StepFailed(error=refused, usage=_NOTHING, cost=0))
            return False
        return True

    async def _one_step(self) -> _Said | None:
        """Ask the model once. What it said when it waits for results, None when the run is over."""
        said = _Said()
        self._line.doing = Doing(Activity.WORKING)
        if not self._cancelled:
            failpoints.reach("before_provider_call")
            self._step = self._tasks.spawn("model step", self._relay(said))
            await asyncio.wait({self._step})
        if self._cancelled and said.end is None:
            usage = said.usage(self._request)
            await self._line.say(StepDone(reason=None, usage=usage, cost=self._cost(usage)))
            return None
        assert self._step is not None
        self._step.result()
        return said if said.end and said.end.reason is FinishReason.TOOL_CALLS else None

    async def _relay(self, said: _Said) -> None:
        try:
            async with aclosing(self._choice.provider.generate(self._request)) as deltas:
                usage: Usage | None = None
                async for delta in deltas:
                    if isinstance(delta, Usage):
                        usage = delta
                    else:
                        await self._pass_on(delta, usage, said)
            if said.end is None:
                raise ProviderGarbage("the provider ended without an end")
        except ServiceError as failure:
            usage = said.usage(self._request)
            await self._line.say(StepFailed(error=failure, usage=usage, cost=self._cost(usage)))

    async def _pass_on(self, delta: Delta, usage: Usage | None, said: _Said) -> None:
        match delta:
            case TextDelta(text):
                said.text.append(text)
                await self._line.say(delta)
            case ReasoningDelta(text, state):
                said.thought.append(text)
                said.parts.append(ReasoningPart(text, state))
                await self._line.say(delta)
            case ToolCall():
                said.parts.append(delta)
                await self._line.say(delta)
            case Doing():
                self._line.doing = delta
            case Finished(reason):
                used = usage or said.usage(self._request)
                end = StepDone(reason=reason, usage=used, cost=self._cost(used))
                await self._line.say(end)
                said.end = end
            case Usage():
                pass  # kept by the caller for the end
            case _:
                assert_never(delta)

    def _cost(self, usage: Usage) -> int:
        return pricing.cost(usage, self._choice.model.price)


_NOTHING = Usage(input_tokens=0, output_tokens=0)
