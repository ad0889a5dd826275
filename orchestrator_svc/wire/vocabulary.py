"""Words that every message shares: parts, marks, usage, times."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2 as pb
from orchestrator_svc.conversation import (
    FinishReason,
    Placement,
    Role,
    Source,
    ToolCall,
    ToolResult,
    Trust,
    Usage,
)
from orchestrator_svc.material import Parameters

ROLES = {Role.USER: pb.ROLE_USER, Role.ASSISTANT: pb.ROLE_ASSISTANT, Role.TOOL: pb.ROLE_TOOL}
PLACEMENTS = {Placement.ANY: pb.PLACEMENT_ANY, Placement.LOCAL_ONLY: pb.PLACEMENT_LOCAL_ONLY}
TRUSTS = {Trust.PERSON: pb.TRUST_PERSON, Trust.UNTRUSTED: pb.TRUST_UNTRUSTED}
FINISHES = {
    FinishReason.UNKNOWN: pb.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: pb.FINISH_REASON_CONTENT_FILTER,
}
_ROLES_READ: dict[int, Role] = {int(number): role for role, number in ROLES.items()}
_FINISHES_READ: dict[int, FinishReason] = {int(number): reason for reason, number in FINISHES.items()}
_PLACEMENTS_READ: dict[int, Placement] = {int(number): mark for mark, number in PLACEMENTS.items()}
_TRUSTS_READ: dict[int, Trust] = {int(number): mark for mark, number in TRUSTS.items()}
NO_REASON = error_pb2.ERROR_REASON_UNSPECIFIED
# By name of the module: Python 3.11 takes five times as long to find a member by its class.
_PERSON, _ANYWHERE, _UNTRUSTED = Role.USER, Placement.ANY, Trust.UNTRUSTED
_MICROS = 1_000_000


def role(number: int) -> Role:
    """Who speaks; whoever is not known is the person."""
    return _ROLES_READ.get(number, _PERSON)


def placement(number: int) -> Placement:
    """Where content may go."""
    return _PLACEMENTS_READ.get(number, _ANYWHERE)


def trust(number: int, default: Trust = Trust.UNTRUSTED) -> Trust:
    """How far content can be trusted; `default` when nothing is said."""
    return _TRUSTS_READ.get(number, _UNTRUSTED) if number else default


def finish_reason(number: int) -> FinishReason:
    """Why a model stopped."""
    return _FINISHES_READ.get(number, FinishReason.UNKNOWN)


def reason(name: str) -> error_pb2.ErrorReason.ValueType:
    """The number of a reason; one that the catalogue lacks is INTERNAL."""
    known = error_pb2.ErrorReason.keys()
    full = f"ERROR_REASON_{name}"
    return error_pb2.ErrorReason.Value(full if full in known else "ERROR_REASON_INTERNAL")


def reason_name(number: error_pb2.ErrorReason.ValueType) -> str:
    """The name of a reason without its prefix; a number that is not known is INTERNAL."""
    if number not in error_pb2.ErrorReason.values() or number == 0:
        return "INTERNAL"
    return error_pb2.ErrorReason.Name(number).removeprefix("ERROR_REASON_")


def call(message: pb.ToolCallPart) -> ToolCall:
    """A call that came."""
    return ToolCall(call_id=message.call_id, action=message.action, arguments=message.arguments_json or "{}")


def call_part(call_: ToolCall) -> pb.ToolCallPart:
    """A call to send."""
    return pb.ToolCallPart(call_id=call_.call_id, action=call_.action, arguments_json=call_.arguments)


def result(message: pb.ToolResultPart) -> ToolResult:
    """A result that came."""
    return ToolResult(
        call_id=message.call_id,
        action=message.action,
        content=message.content,
        failed=message.failed,
        sources=tuple(map(source, message.sources)),
    )


def result_part(result_: ToolResult) -> pb.ToolResultPart:
    """A result to send."""
    return pb.ToolResultPart(
        call_id=result_.call_id,
        action=result_.action,
        content=result_.content,
        failed=result_.failed,
        sources=map(source_part, result_.sources),
    )


def source(message: pb.Source) -> Source:
    """A source that came."""
    return Source(
        title=message.title,
        uri=message.uri,
        document_id=message.document_id,
        page=message.page,
        span_start=message.span_start,
        span_end=message.span_end,
        snippet=message.snippet,
        fetched_at_us=microseconds(message.fetch_time),
        publisher=message.publisher,
    )


def source_part(source_: Source) -> pb.Source:
    """A source to send."""
    return pb.Source(
        title=source_.title,
        uri=source_.uri,
        document_id=source_.document_id,
        page=source_.page,
        span_start=source_.span_start,
        span_end=source_.span_end,
        snippet=source_.snippet,
        fetch_time=timestamp(source_.fetched_at_us) if source_.fetched_at_us else None,
        publisher=source_.publisher,
    )


def usage(message: pb.Usage) -> Usage:
    """What was used, as it came."""
    return Usage(
        input_tokens=message.input_tokens,
        cached_tokens=message.cached_tokens,
        output_tokens=message.output_tokens,
        reasoning_tokens=message.reasoning_tokens,
        estimated=message.estimated,
        cost_micro_usd=message.cost_micro_usd,
    )


def usage_part(usage_: Usage) -> pb.Usage:
    """What was used, to send."""
    return pb.Usage(
        input_tokens=usage_.input_tokens,
        cached_tokens=usage_.cached_tokens,
        output_tokens=usage_.output_tokens,
        reasoning_tokens=usage_.reasoning_tokens,
        estimated=usage_.estimated,
        cost_micro_usd=usage_.cost_micro_usd,
    )


def parameters(*messages: pb.GenerationParameters) -> Parameters:
    """How a model writes: of each field the first that was set."""
    merged = pb.GenerationParameters()
    for message in reversed(messages):
        if message.stop:
            del merged.stop[:]
        merged.MergeFrom(message)
    return Parameters(
        temperature=merged.temperature if merged.HasField("temperature") else None,
        top_p=merged.top_p if merged.HasField("top_p") else None,
        max_output_tokens=merged.max_output_tokens if merged.HasField("max_output_tokens") else None,
        stop=tuple(merged.stop),
        seed=merged.seed if merged.HasField("seed") else None,
        json_schema=merged.json_schema if merged.HasField("json_schema") else None,
    )


def parameters_part(parameters_: Parameters) -> pb.GenerationParameters:
    """How a model writes, to send; what is None stays absent."""
    return pb.GenerationParameters(
        temperature=parameters_.temperature,
        top_p=parameters_.top_p,
        max_output_tokens=parameters_.max_output_tokens,
        stop=parameters_.stop,
        seed=parameters_.seed,
        json_schema=parameters_.json_schema,
    )


def seconds(message: Duration) -> float:
    """A duration in seconds."""
    return message.seconds + message.nanos / 1e9


def duration(seconds_: float) -> Duration:
    """Seconds as a duration, to the microsecond."""
    whole, micros = divmod(round(max(0.0, seconds_) * _MICROS), _MICROS)
    return Duration(seconds=whole, nanos=micros * 1_000)


def microseconds(message: Timestamp) -> int:
    """A time in microseconds since 1970; 0 when it is absent."""
    return message.seconds * _MICROS + message.nanos // 1_000


def timestamp(micros: int) -> Timestamp:
    """Microseconds since 1970 as a time."""
    return Timestamp(seconds=micros // _MICROS, nanos=micros % _MICROS * 1_000)
