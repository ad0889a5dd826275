"""Between the contract's messages and the room's nouns: pure, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2 as pb
from assistant.message.v1 import message_pb2
from chassis.errors import ServiceError
from llm_svc import schemas
from llm_svc.batches import Outcome
from llm_svc.errors import FrameUnexpected
from llm_svc.events import Event, Started, StepDone, StepFailed
from llm_svc.frames import Cancel, Frame, Results, Start
from llm_svc.generation import (
    Activity,
    Doing,
    FinishReason,
    ImagePart,
    Message,
    Parameters,
    Part,
    Placement,
    ReasoningDelta,
    ReasoningPart,
    Request,
    Role,
    TextDelta,
    TextPart,
    TokenCount,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from llm_svc.providers.provider import Model, ModelState

PAGE = 50

_ROLES = {
    message_pb2.ROLE_USER: Role.USER,
    message_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    message_pb2.ROLE_TOOL: Role.TOOL,
}
_PERSON, _UNTRUSTED = Role.USER, message_pb2.TRUST_UNTRUSTED
_CHOICES = {pb.TOOL_CHOICE_NONE: ToolChoice.NONE, pb.TOOL_CHOICE_REQUIRED: ToolChoice.REQUIRED}
_FINISHES = {
    FinishReason.STOP: message_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: message_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: message_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: message_pb2.FINISH_REASON_CONTENT_FILTER,
}
_STATES = {
    ModelState.UNKNOWN: pb.MODEL_STATE_UNSPECIFIED,
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.FAILING: pb.MODEL_STATE_FAILING,
}
_ACTIVITIES = {
    Activity.QUEUED: pb.GENERATION_ACTIVITY_QUEUED,
    Activity.LOADING: pb.GENERATION_ACTIVITY_LOADING,
    Activity.WORKING: pb.GENERATION_ACTIVITY_WORKING,
}


# --- requests -----------------------------------------------------------------------------------------------


def frame(message: pb.GenerateRequest) -> Frame:
    """One frame of the caller. Raises FrameUnexpected for an empty one."""
    match message.WhichOneof("frame"):
        case "start":
            return start(message.start)
        case "tool_results":
            return results(message.tool_results)
        case "cancel":
            return Cancel()
        case _:
            raise FrameUnexpected("an empty frame")


def start(message: pb.StartGeneration) -> Start:
    """The opening of a run. Raises InvalidRequest for a schema that is none."""
    if message.parameters.HasField("json_schema"):
        schemas.require_schema("start.parameters.json_schema", message.parameters.json_schema)
    return Start(
        request=Request(
            model=message.model,
            messages=window(message.window),
            tools=tools(message.tools),
            parameters=_parameters(message),
            placement=_placement(message.placement),
            session=message.prefix_key,
        ),
        max_cost=message.max_cost_micro_usd if message.HasField("max_cost_micro_usd") else None,
        turn=message.turn_id,
        explicit=message.explicit_model,
        cache_account=message.cache_account_id,
        cache_epoch=message.cache_epoch,
    )


def results(message: pb.ToolResults) -> Results:
    """The answers to a step's calls. Raises InvalidRequest for a tool whose schema is no object."""
    return Results(
        results=tuple(_result(each) for each in message.results),
        messages=window(message.window) if message.HasField("window") else None,
        tool_choice=_CHOICES.get(message.tool_choice, ToolChoice.AUTO),
        max_cost=message.max_cost_micro_usd if message.HasField("max_cost_micro_usd") else None,
        tools=tools(message.tools) or None,
    )


def count_request(message: pb.CountTokensRequest) -> Request:
    """What shall be counted."""
    return Request(
        model=message.model,
        messages=window(message.window),
        tools=tools(message.tools),
        placement=_placement(message.placement),
    )


def window(message: pb.Window) -> tuple[Message, ...]:
    """The window's messages, the system text first."""
    system = (Message(role=Role.SYSTEM, parts=(TextPart(message.system),)),) if message.system else ()
    return (*system, *map(_message, message.messages))


def tools(messages: Iterable[pb.ToolSpec]) -> tuple[Tool, ...]:
    """The tools on offer; no schema means any object. Raises InvalidRequest for one that is no object."""
    return tuple(_tool(spec, place) for place, spec in enumerate(messages))


def _tool(spec: pb.ToolSpec, place: int) -> Tool:
    schema = spec.parameters_json_schema or '{"type":"object"}'
    schemas.require_object(f"tools[{place}].parameters_json_schema", schema)
    return Tool(name=spec.name, description=spec.description, schema=schema)


def _message(message: pb.WindowMessage) -> Message:
    role = _ROLES.get(message.role, _PERSON)
    parts = [_part(part, role) for part in message.parts]
    return Message(role=role, parts=tuple([part for part in parts if part is not None]))


def _part(part: pb.WindowPart, role: Role) -> Part | None:
    match part.WhichOneof("content"):
        case "text":
            return TextPart(part.text, part.trust == _UNTRUSTED and role is _PERSON)
        case "image":
            return ImagePart(part.image.data, part.image.mime_type)
        case "tool_call":
            call = part.tool_call
            return ToolCall(id=call.call_id, name=call.action, arguments=call.arguments_json or "{}")
        case "tool_result":
            return _result(part.tool_result)
        case "reasoning":
            return ReasoningPart(part.reasoning.text, part.provider_state)
        case _:
            return None


def _result(result: message_pb2.ToolResultPart) -> ToolResult:
    return ToolResult(call_id=result.call_id, name=result.action, text=result.content, failed=result.failed)


def _parameters(message: pb.StartGeneration) -> Parameters:
    given = message.parameters
    return Parameters(
        temperature=given.temperature if given.HasField("temperature") else None,
        top_p=given.top_p if given.HasField("top_p") else None,
        max_output_tokens=given.max_output_tokens if given.HasField("max_output_tokens") else None,
        stop=tuple(given.stop),
        seed=given.seed if given.HasField("seed") else None,
        json_schema=given.json_schema if given.HasField("json_schema") else None,
        tool_choice=_CHOICES.get(message.tool_choice, ToolChoice.AUTO),
    )


def _placement(value: int) -> Placement:
    return Placement.LOCAL_ONLY if value == message_pb2.PLACEMENT_LOCAL_ONLY else Placement.ANY


# --- answers ------------------------------------------------------------------------------------------------


def response(event: Event) -> pb.GenerateResponse:
    """One frame of the server."""
    match event:
        case TextDelta(text):
            return pb.GenerateResponse(text=text)
        case ReasoningDelta(text, state):
            return pb.GenerateResponse(reasoning=pb.ReasoningPiece(text=text, provider_state=state))
        case ToolCall():
            return pb.GenerateResponse(tool_call=_call(event))
        case Started():
            return pb.GenerateResponse(started=_started(event))
        case StepDone():
            return pb.GenerateResponse(step_finished=_finished(event))
        case StepFailed():
            return pb.GenerateResponse(step_failed=_failed(event))
        case Doing(activity, fraction):
            progress = pb.GenerationProgress(activity=_ACTIVITIES[activity], fraction=fraction)
            return pb.GenerateResponse(progress=progress)
        case _:
            assert_never(event)


def _started(event: Started) -> pb.GenerationStarted:
    model = event.choice.model
    return pb.GenerationStarted(
        model=model.id,
        provider=model.provider,
        local=model.local,
        fallback_from=event.fallback_from,
        from_cache=event.from_cache,
    )


def _finished(event: StepDone) -> pb.StepFinished:
    reason = message_pb2.FINISH_REASON_UNSPECIFIED if event.reason is None else _FINISHES[event.reason]
    return pb.StepFinished(finish_reason=reason, usage=_usage(event.usage, event.cost))


def _failed(event: StepFailed) -> pb.StepFailed:
    error = event.error
    return pb.StepFailed(
        reason=reason(error),
        message=error.message,
        retryable=error.code is StatusCode.UNAVAILABLE or error.retry_after is not None,
        retry_delay=_delay(error),
        usage=_usage(event.usage, event.cost),
    )


def reason(error: ServiceError) -> error_pb2.ErrorReason.ValueType:
    """The contract's value for a failure's reason."""
    return error_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}")


def batch(outcomes: Iterable[Outcome]) -> pb.BatchGenerateResponse:
    """The outcomes of a batch."""
    return pb.BatchGenerateResponse(outcomes=map(_outcome, outcomes))


def _outcome(outcome: Outcome) -> pb.BatchOutcome:
    parts = [_said(part) for part in outcome.parts]
    if isinstance(outcome.end, StepDone):
        return pb.BatchOutcome(parts=parts, finished=_finished(outcome.end))
    return pb.BatchOutcome(parts=parts, failed=_failed(outcome.end))


def _said(part: Part) -> pb.WindowPart:
    match part:
        case TextPart(text):
            return pb.WindowPart(text=text)
        case ReasoningPart(text, state):
            return pb.WindowPart(reasoning=message_pb2.ReasoningPart(text=text), provider_state=state)
        case ToolCall():
            return pb.WindowPart(tool_call=_call(part))
        case ImagePart() | ToolResult():
            raise ValueError("a model says no such part")
        case _:
            assert_never(part)


def _call(call: ToolCall) -> message_pb2.ToolCallPart:
    return message_pb2.ToolCallPart(call_id=call.id, action=call.name, arguments_json=call.arguments)


def _delay(error: ServiceError) -> Duration | None:
    if error.retry_after is None:
        return None
    delay = Duration()
    delay.FromTimedelta(error.retry_after)
    return delay


def _usage(usage: Usage, cost: int) -> message_pb2.Usage:
    return message_pb2.Usage(
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
        cost_micro_usd=cost,
    )


def counted(count: TokenCount) -> pb.CountTokensResponse:
    """The answer to a count."""
    return pb.CountTokensResponse(tokens=count.tokens, estimated=count.estimated)


def model(known: Model, *, default: str) -> pb.Model:
    """One model; ``default`` is the id of the default one."""
    price = known.price
    return pb.Model(
        name=known.id,
        display_name=known.display_name,
        provider=known.provider,
        context_tokens=known.context_tokens,
        output_tokens=known.output_tokens,
        vision=known.vision,
        tools=known.tools,
        json_schema=known.json_schema,
        local=known.local,
        input_price_micro_usd=price.input if price else 0,
        output_price_micro_usd=price.output if price else 0,
        price_time=Timestamp(seconds=price.looked_up) if price else None,
        state=_STATES[known.state],
        load_fraction=known.loaded,
        default=known.id == default,
    )


def models(known: Sequence[Model], request: pb.ListModelsRequest, *, default: str) -> pb.ListModelsResponse:
    """One page; a page token is the name after which the page begins, so that it survives a restart."""
    names = [each.id for each in known]
    begin = names.index(request.page_token) + 1 if request.page_token in names else 0
    end = begin + (request.page_size or PAGE)
    token = names[end - 1] if end < len(names) else ""
    page = [model(each, default=default) for each in known[begin:end]]
    return pb.ListModelsResponse(models=page, next_page_token=token)
