"""Between our nouns and those of ``pydantic-ai``. Imported only where a model of the long tail is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import httpx
import msgspec
from pydantic_ai import exceptions as theirs
from pydantic_ai import messages as pai
from pydantic_ai.direct import model_request_stream
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from chassis.errors import ServiceError
from llm_svc.errors import (
    ContextTooLong,
    ProviderFailed,
    ProviderGarbage,
    ProviderLimited,
    ProviderRefused,
    ProviderTimeout,
)
from llm_svc.generation import (
    Delta,
    Finished,
    FinishReason,
    ImagePart,
    Message,
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
    shown,
)
from llm_svc.providers.chat_stream import MAX_ANSWER_CHARS
from llm_svc.providers.pending_calls import PendingCalls
from llm_svc.providers.refusal import refusal
from llm_svc.tokens import estimate, estimate_text

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_call": FinishReason.TOOL_CALLS,
}
_FAILURES: tuple[tuple[type[Exception], type[ServiceError]], ...] = (  # the first that fits
    (theirs.ModelContextWindowExceededError, ContextTooLong),
    (theirs.ModelRateLimitError, ProviderLimited),
    (theirs.ModelQuotaExceededError, ProviderLimited),
    (theirs.ModelTimeoutError, ProviderTimeout),
    (theirs.ModelRequestTimeout, ProviderTimeout),
    (theirs.ModelRequestRejectedError, ProviderRefused),
    (theirs.ModelAPIError, ProviderFailed),
    (theirs.UnexpectedModelBehavior, ProviderGarbage),
    (theirs.UserError, ProviderRefused),
    (httpx.TimeoutException, ProviderTimeout),
    (httpx.HTTPError, ProviderFailed),
    (ImportError, ProviderRefused),
)


class _Thought(msgspec.Struct, tag="pydantic-ai", tag_field="of"):
    signature: str
    provider: str | None = None
    id: str | None = None


_decode_thought = msgspec.json.Decoder(_Thought).decode


def opened(name: str, key: str) -> Model:
    """The model of that name, with our key where there is one, else with what the environment holds."""
    try:
        if not key:
            return infer_model(name, infer_provider)
        return infer_model(name, lambda provider: _keyed(provider, key))
    except (theirs.UserError, ImportError, TypeError, ValueError) as wrong:
        raise ProviderRefused(f"{type(wrong).__name__} when opening a model") from None


def _keyed(name: str, key: str) -> Provider[Any]:
    kind: Callable[..., Provider[Any]] = infer_provider_class(
        name
    )  # each takes more than the base class says
    return kind(api_key=key)


async def deltas(model: Model, request: Request, silence: float) -> AsyncGenerator[Delta, None]:
    """The deltas of one step; see Provider."""
    ask = model_request_stream(
        model,
        list(_messages(request.messages)),
        model_settings=_settings(request, silence),
        model_request_parameters=_parameters(request),
    )
    size = 0
    try:
        async with ask as stream:
            events = aiter(stream)
            while True:
                async with asyncio.timeout(silence):
                    event = await anext(events, None)
                if event is None:
                    break
                for delta in _delta(event):
                    size += len(delta.text)
                    if size > MAX_ANSWER_CHARS:
                        raise ProviderGarbage
                    yield delta
            answer = stream.get()
        for last in _end(answer, request, size):
            yield last
    except TimeoutError as slow:
        raise ProviderTimeout from slow
    except tuple(known for known, _ in _FAILURES) as failure:
        raise _failure(failure) from None  # its words may hold the request


def _failure(failure: Exception) -> ServiceError:
    if isinstance(failure, theirs.ModelHTTPError) and not isinstance(
        failure, theirs.ModelContextWindowExceededError
    ):
        return refusal(failure.status_code, b"")
    ours = next(ours for known, ours in _FAILURES if isinstance(failure, known))
    return ours(type(failure).__name__)


def _delta(event: object) -> Iterator[TextDelta | ReasoningDelta]:
    match event:
        case pai.PartStartEvent(part=pai.TextPart(content=text)) if text:
            yield TextDelta(text)
        case pai.PartStartEvent(part=pai.ThinkingPart(content=text)) if text:
            yield ReasoningDelta(text)
        case pai.PartDeltaEvent(delta=pai.TextPartDelta(content_delta=text)) if text:
            yield TextDelta(text)
        case pai.PartDeltaEvent(delta=pai.ThinkingPartDelta(content_delta=text)) if text:
            yield ReasoningDelta(text)
        case pai.PartEndEvent(part=pai.ThinkingPart() as part) if part.signature:
            thought = _Thought(signature=part.signature, provider=part.provider_name, id=part.id)
            yield ReasoningDelta("", msgspec.json.encode(thought))


def _end(answer: pai.ModelResponse, request: Request, size: int) -> Iterator[Delta]:
    pending = PendingCalls(request)
    for place, part in enumerate(answer.parts):
        if isinstance(part, pai.ToolCallPart):
            pending.add(place, id=part.tool_call_id, name=part.tool_name, arguments=part.args_as_json_str())
    calls, usage = pending.whole(), _usage(answer.usage, request, size)
    yield from calls
    yield usage
    yield Finished(FinishReason.TOOL_CALLS if calls else _reason(answer, request, usage))


def _reason(answer: pai.ModelResponse, request: Request, usage: Usage) -> FinishReason:
    """Why an answer without calls ended; where the library does not say, one that used its limit was cut."""
    said = _REASONS.get(answer.finish_reason or "")
    limit = request.parameters.max_output_tokens
    if said is None and limit is not None and usage.output_tokens >= limit:
        return FinishReason.LENGTH
    return FinishReason.STOP if said in (None, FinishReason.TOOL_CALLS) else said


def _usage(usage: RequestUsage, request: Request, size: int) -> Usage:
    if not usage.input_tokens and not usage.output_tokens:
        read, written = estimate(request).tokens, estimate_text("x" * size)
        return Usage(input_tokens=read, output_tokens=written, estimated=True)
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cache_read_tokens,
        stored_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.details.get("reasoning_tokens", 0),
    )


def _settings(request: Request, silence: float) -> ModelSettings:
    parameters, settings = request.parameters, ModelSettings(timeout=silence)
    if parameters.temperature is not None:
        settings["temperature"] = parameters.temperature
    if parameters.top_p is not None:
        settings["top_p"] = parameters.top_p
    if parameters.max_output_tokens is not None:
        settings["max_tokens"] = parameters.max_output_tokens
    if parameters.stop:
        settings["stop_sequences"] = list(parameters.stop)
    if parameters.seed is not None:
        settings["seed"] = parameters.seed
    if request.tools:
        settings["tool_choice"] = parameters.tool_choice.value
    return settings


def _parameters(request: Request) -> ModelRequestParameters:
    offered = request.parameters.tool_choice is not ToolChoice.NONE
    tools = [
        ToolDefinition(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=msgspec.json.decode(tool.schema),
        )
        for tool in (request.tools if offered else ())
    ]
    schema = request.parameters.json_schema
    if schema is None:
        return ModelRequestParameters(function_tools=tools)
    answer = OutputObjectDefinition(name="answer", json_schema=msgspec.json.decode(schema))
    return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=answer)


def _messages(messages: Sequence[Message]) -> Iterator[pai.ModelMessage]:
    for message in messages:
        if message.role is Role.ASSISTANT:
            yield pai.ModelResponse(parts=list(_said(message)))
        else:
            yield pai.ModelRequest(parts=list(_asked(message)))


def _asked(message: Message) -> Iterator[pai.ModelRequestPart]:
    if message.role is Role.SYSTEM:
        yield pai.SystemPromptPart(message.shown)
        return
    content: list[pai.UserContent] = []
    for part in message.parts:
        match part:
            case ToolResult():
                yield pai.ToolReturnPart(
                    tool_name=part.name,
                    content=part.text,
                    tool_call_id=part.call_id,
                    outcome="failed" if part.failed else "success",
                )
            case TextPart():
                content.append(shown(part))
            case ImagePart(data, mime):
                content.append(pai.BinaryContent(data=data, media_type=mime))
            case _:
                pass  # what only a model says
    if content:
        yield pai.UserPromptPart(content)


def _said(message: Message) -> Iterator[pai.ModelResponsePart]:
    for part in message.parts:
        match part:
            case TextPart():
                yield pai.TextPart(shown(part))
            case ToolCall():
                yield pai.ToolCallPart(part.name, part.arguments, tool_call_id=part.id)
            case ReasoningPart(text, state):
                yield from _thought(text, state)
            case _:
                pass  # what only a person or a tool says


def _thought(text: str, state: bytes) -> Iterator[pai.ThinkingPart]:
    try:
        thought = _decode_thought(state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    yield pai.ThinkingPart(text, signature=thought.signature, provider_name=thought.provider, id=thought.id)
