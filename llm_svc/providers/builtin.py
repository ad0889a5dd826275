"""The built-in model: chat by the engine's own stream, tools by the router, everything on this machine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import httpx
import msgspec

from llm_svc import routing
from llm_svc.engine.admission import Admission
from llm_svc.engine.client import EngineClient
from llm_svc.engine.process import EngineProcess, Phase
from llm_svc.engine.standing import Beginning, beginning_of_turn
from llm_svc.errors import EngineCrashed, ParameterUnsupported, ProviderFailed
from llm_svc.generation import (
    Activity,
    Delta,
    Doing,
    Finished,
    FinishReason,
    ImagePart,
    Message,
    Parameters,
    Request,
    Role,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    calls_in,
)
from llm_svc.providers import chat_body, openai
from llm_svc.providers.provider import Model, ModelState
from llm_svc.providers.spoken_call import Listener

NAME_TOKENS = 32
ARGUMENT_TOKENS = 512
TEMPERATURE = 0.2  # where none is asked for: at the library's own 0.8 small models wander
LOADING_PATIENCE_SECONDS = 60.0
FORGETTING_PATIENCE_SECONDS = 30.0
LOADING_STEP_SECONDS = 1.0
_STATES = {
    Phase.READY: ModelState.READY,
    Phase.CRASHED: ModelState.FAILING,
    Phase.STOPPED: ModelState.FAILING,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chosen:
    """What the router decided: a call, or None for an answer in text; and what deciding took."""

    call: ToolCall | None
    usage: Usage


class Builtin:
    """Provider over the engine process of this room.

    A step that asks for a tool reports the tokens of asking for it, a step that answers those of the answer.
    ``remember`` is told what each agent's turn begins with.
    """

    name = "built-in"

    def __init__(
        self,
        model: Model,
        *,
        process: EngineProcess,
        client: EngineClient,
        admission: Admission,
        lesson: routing.Lesson,
        remember: Callable[[Beginning], None] = lambda beginning: None,
    ) -> None:
        self._model = model
        self._process = process
        self._client = client
        self._admission = admission
        self._lesson = lesson
        self._remember = remember

    async def models(self) -> Sequence[Model]:
        """The one model, with its present state."""
        phase = self._process.progress.phase
        state = _STATES.get(phase, ModelState.LOADING)
        return (replace(self._model, state=state, loaded=self._process.loaded),)

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Provider. Waits a while for an engine that is loading, then raises ModelLoading."""
        _require_text(request)
        async for doing in self._until_ready():
            yield doing
        if self._admission.is_full:
            yield Doing(Activity.QUEUED)
        async with self._admission.place():
            yield Doing(Activity.WORKING)
            async with aclosing(self._step(request)) as deltas:
                async for delta in deltas:
                    yield delta

    async def count(self, request: Request) -> TokenCount:
        """Counted by the model's own template and tokenizer. Raises ModelLoading before it is loaded."""
        self._process.require_ready()
        prompt = await self._client.render(plain_messages(request.messages))
        return TokenCount(tokens=await self._client.count(prompt), estimated=False)

    async def forget(self) -> None:
        """Lose every conversation: the engine is started anew once nobody uses it, and reads its beginnings again.

        After half a minute it is, whoever uses it: an ended account is gone in a minute, a turn can be tried again.
        Erasing its slots would leave what it keeps of earlier conversations in memory, for which it has no call.
        """
        async with self._admission.all_places(FORGETTING_PATIENCE_SECONDS):
            await self._process.renew(LOADING_PATIENCE_SECONDS)

    async def close(self) -> None:
        """End the engine."""
        await self._process.close()
        await self._client.close()

    async def _until_ready(self) -> AsyncGenerator[Delta, None]:
        waited = 0.0
        while self._process.is_coming and waited < LOADING_PATIENCE_SECONDS:
            yield Doing(Activity.LOADING, self._process.loaded)
            await self._process.wait_ready(LOADING_STEP_SECONDS)
            waited += LOADING_STEP_SECONDS
        self._process.require_ready()

    async def _step(self, request: Request) -> AsyncGenerator[Delta, None]:
        if self._routes(request):
            chosen = await self._choose(request)
            if chosen.call is not None:
                yield chosen.call
                yield chosen.usage
                yield Finished(FinishReason.TOOL_CALLS)
                return
        async with aclosing(self._answer(request)) as deltas:
            async for delta in deltas:
                yield delta

    def _routes(self, request: Request) -> bool:
        """A model too small to choose is asked only when a tool is required."""
        able = self._model.tools or request.parameters.tool_choice is ToolChoice.REQUIRED
        return able and routing.is_needed(request)

    async def _choose(self, request: Request) -> _Chosen:
        conversation = (*routing.prefix(self._lesson, request.tools), routing.question(request))
        prompt = await self._client.render(plain_messages(conversation))
        grammar = routing.grammar(request.tools, request.parameters.tool_choice)
        named = await self._client.complete(prompt, tokens=NAME_TOKENS, grammar=grammar)
        tool = next((tool for tool in request.tools if tool.name == named.text.strip()), None)
        if tool is None:
            return _Chosen(call=None, usage=named.usage)
        asked = routing.continued(prompt, tool.name)
        try:
            argued = await self._client.complete(asked, tokens=ARGUMENT_TOKENS, schema=tool.schema)
        except ParameterUnsupported:  # no grammar for this schema: any object, the caller checks it anyway
            argued = await self._client.complete(asked, tokens=ARGUMENT_TOKENS, schema='{"type":"object"}')
        usage = _sum(named.usage, argued.usage)
        if routing.is_repeated(request, tool.name, argued.text):
            return _Chosen(call=None, usage=usage)
        return _Chosen(call=_call(request, tool.name, argued.text), usage=usage)

    async def _answer(self, request: Request) -> AsyncGenerator[Delta, None]:
        asked = msgspec.json.encode(
            {
                **chat_body.sampling(_bounded(request, self._model)),
                "messages": plain_messages(request.messages),
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        if request.tools and not request.session:  # somebody's would tell what it was about
            self._remember(beginning_of_turn(request))
        answer = _Answer(request)
        try:
            async with aclosing(
                openai.deltas(self._client.pool, "v1/chat/completions", asked, request)
            ) as deltas:
                async for delta in deltas:
                    for known in answer.take(delta):
                        yield known
        except ProviderFailed as failed:
            if isinstance(failed.__cause__, httpx.TransportError):
                raise EngineCrashed from failed
            raise


class _Answer:
    """An answer in text, unless it turns out to be a tool call that the model speaks as text."""

    def __init__(self, request: Request) -> None:
        self._request = request
        tools = [tool.name for tool in request.tools] if routing.is_needed(request) else []
        self._listener = Listener(tools)
        self._called = False

    def take(self, delta: Delta) -> Iterator[Delta]:
        """The delta as the reader shall see it; Usage, which comes first of the last two, ends the text."""
        match delta:
            case TextDelta(text):
                if heard := self._listener.hear(text):
                    yield TextDelta(heard)
            case Usage():
                yield from self._end()
                yield delta
            case Finished() if self._called:
                yield Finished(FinishReason.TOOL_CALLS)
            case _:
                yield delta

    def _end(self) -> Iterator[Delta]:
        call = self._listener.call()
        if call is None:
            if held := self._listener.held:
                yield TextDelta(held)
            return
        arguments = bytes(call.arguments).decode()
        if routing.is_repeated(self._request, call.name, arguments):
            yield TextDelta(self._listener.held)
            return
        self._called = True
        yield _call(self._request, call.name, arguments)


def _require_text(request: Request) -> None:
    if any(isinstance(part, ImagePart) for message in request.messages for part in message.parts):
        raise ParameterUnsupported("the built-in model does not see pictures")


def _bounded(request: Request, model: Model) -> Request:
    """The request with a limit on what is written, for a small model may never end, and a temperature."""
    wanted = request.parameters.max_output_tokens or model.output_tokens
    given = request.parameters
    limited: Parameters = replace(
        given,
        max_output_tokens=min(wanted, model.output_tokens),
        temperature=TEMPERATURE if given.temperature is None else given.temperature,
    )
    return replace(request, parameters=limited)


def _call(request: Request, name: str, arguments: str) -> ToolCall:
    return ToolCall(id=f"call_{len(calls_in(request.messages)) + 1}", name=name, arguments=arguments)


def _sum(first: Usage, second: Usage) -> Usage:
    return Usage(
        input_tokens=first.input_tokens + second.input_tokens,
        output_tokens=first.output_tokens + second.output_tokens,
        cached_tokens=first.cached_tokens + second.cached_tokens,
    )


def plain_messages(messages: Sequence[Message]) -> list[dict[str, object]]:
    """Plain chat messages: templates of small models know no tools, so calls and results become sentences.

    The results come with the person's message once more. Measured on 36 answers (``python -m
    benchmarks.result_use``): with the 1.5 B model 36 use the result and with the 0.5 B model 30; with "use this to
    answer" instead of "tell me that" 43 of 64 did with the first, 14 of 36 with the second.
    """
    wire: list[dict[str, object]] = []
    question = ""
    for message in messages:
        if message.role is Role.USER:
            question = message.text
        spoken = _spoken_form(message, question)
        wire += [{"role": role.value, "content": text} for role, text in spoken if text]
    return wire


def _spoken_form(message: Message, question: str) -> Iterator[tuple[Role, str]]:
    calls = [f"{part.name} {part.arguments}" for part in message.parts if isinstance(part, ToolCall)]
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    if message.shown or not (calls or results):
        yield Role.USER if message.role is Role.TOOL else message.role, message.shown
    if calls:
        yield Role.ASSISTANT, "\n".join(calls)
    if results:
        lines = [_answered(result) for result in results]
        yield Role.USER, "\n".join([f"I asked: {question}", *lines, "Tell me that in a sentence."])


def _answered(result: ToolResult) -> str:
    if result.failed:
        return f"{result.name} failed: {result.text}"
    return f"The answer of {result.name} is:\n{result.text}"
