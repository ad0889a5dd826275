"""A turn's run on the wire to orchestrator_svc. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from context_svc.endings import Over
from context_svc.journal import Kind
from context_svc.run_frames import Alive, Frame, Happened, HostCalled, ReasoningDelta, ReceiptEntry, TextDelta
from context_svc.runs import Material
from context_svc.summary_rows import Summary
from context_svc.turn_rows import TurnState
from context_svc.waiting import Ask, Pending, Suspended
from context_svc.wire import known, leavings, preferences
from context_svc.wire.chat import ANSWER_FIELDS, text_of
from context_svc.wire.preferences import Effective
from context_svc.wire.turn_events import call_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What one turn may use."""

    steps: int
    calls: int
    tool_time: timedelta
    tokens: int
    time: timedelta


def start(material: Material, budget: Budget, grants: turn_pb2.Grants) -> turn_pb2.RunTurnRequest:
    """The frame that opens a turn."""
    claim = material.claim
    options = chat_pb2.TurnOptions.FromString(claim.options)
    layers = preferences.layers(material.known.stored, material.settings, options)
    total = preferences.effective(layers)
    if total.preferences.response_cache_enabled:
        options.use_response_cache = True
    return turn_pb2.RunTurnRequest(
        start=turn_pb2.StartTurn(
            turn_id=claim.turn_id,
            session_id=claim.session_id,
            account_id=claim.account_id,
            attempt=claim.attempt,
            purpose=turn_pb2.TurnPurpose.ValueType(int(material.purpose)),
            answer_id=claim.answer_id,
            material=_material(material, total),
            options=options,
            models=known.models(layers),
            budget=_budget(budget, claim.allowance.most),
            grants=grants,
            action=message_pb2.ToolCallPart.FromString(claim.action) if claim.action is not None else None,
            action_approved=claim.action_approved,
            action_left_behind=bool(claim.job_id),
            resumption=_resumption(material),
            cache_epoch=material.cache_epoch,
        )
    )


def context_keys(request: turn_pb2.RunTurnRequest) -> tuple[str, ...]:
    """What of its context a turn is given by the frame that opens it."""
    return tuple(fact.key for fact in request.start.material.facts)


def _resumption(material: Material) -> turn_pb2.Resumption | None:
    """Where the turn stopped, with the answers to what it waited for; None for one that begins."""
    if not material.claim.resumption:
        return None
    stopped = turn_pb2.Resumption.FromString(material.claim.resumption)
    stopped.answers.extend(map(turn_pb2.PendingAnswer.FromString, material.answers))
    return stopped


def frames(response: turn_pb2.RunTurnResponse) -> Iterator[Frame]:
    """What a frame of orchestrator_svc says."""
    match response.WhichOneof("frame"):
        case "event":
            yield _event(response.event, response.left_behind)
        case "host_call":
            call = response.host_call
            yield HostCalled(id=call.call_id, action=call.action, arguments=call.arguments_json)
        case "suspended":
            yield _suspended(response.suspended)
        case "receipt":
            yield ReceiptEntry(response.receipt.SerializeToString())
        case _:
            yield Alive()


def _event(event: chat_pb2.ChatEvent, left: turn_pb2.LeftBehind) -> Frame:
    name = event.WhichOneof("event")
    match name:
        case "text_delta":
            return TextDelta(event.text_delta.text)
        case "reasoning_delta":
            return ReasoningDelta(event.reasoning_delta.text)
        case "turn_finished":
            finished = event.turn_finished
            return _over(TurnState.FINISHED, finished.message, finished.usage)
        case "turn_cancelled":
            cancelled = event.turn_cancelled
            return _over(TurnState.CANCELLED, cancelled.partial, cancelled.usage)
        case "turn_failed":
            return _failed(event.turn_failed)
        case "tool_started" | "tool_finished":
            kind = Kind(event.DESCRIPTOR.fields_by_name[name].number)
            told = getattr(event, name)
            return Happened(kind, told.SerializeToString(), call_of(told), leavings.left(left))
        case None | "approval_requested" | "input_requested":
            return Alive()  # it is told together with TurnSuspended, when it can be answered
        case _:
            kind = Kind(event.DESCRIPTOR.fields_by_name[name].number)
            return Happened(kind, getattr(event, name).SerializeToString())


def _suspended(suspended: turn_pb2.Suspended) -> Suspended:
    stopped = turn_pb2.Resumption()
    stopped.CopyFrom(suspended.resumption)
    stopped.ClearField("answers")
    return Suspended(pending=tuple(map(_pending, suspended.pending)), resumption=stopped.SerializeToString())


def _pending(pending: turn_pb2.PendingCall) -> Pending:
    data = pending.SerializeToString()
    if pending.HasField("approval"):
        asked = pending.approval
        asked.ClearField("expire_time")
        return Pending(
            id=asked.approval_id,
            ask=Ask.APPROVAL,
            digest=asked.arguments_sha256,
            form="",
            data=data,
            event=asked.SerializeToString(),
        )
    question = pending.input
    question.ClearField("expire_time")
    return Pending(
        id=question.input_id,
        ask=Ask.ANSWER,
        digest="",
        form=question.form_json_schema,
        data=data,
        event=question.SerializeToString(),
    )


def _over(state: TurnState, message: message_pb2.Message, usage: message_pb2.Usage) -> Over:
    return Over(
        state=state,
        message=_body(message),
        text=text_of(message.parts),
        usage=usage.SerializeToString(),
    )


def _failed(failed: chat_pb2.TurnFailed) -> Over:
    return Over(
        state=TurnState.FAILED,
        message=_body(failed.partial),
        text=text_of(failed.partial.parts),
        usage=failed.usage.SerializeToString(),
        reason=error_pb2.ErrorReason.Name(failed.reason).removeprefix("ERROR_REASON_"),
        explanation=failed.message,
        retryable=failed.retryable,
        stage=failed.stage,
    )


def _body(message: message_pb2.Message) -> bytes:
    """The answer without what context_svc sets itself; empty when nothing was said."""
    if not message.parts:
        return b""
    for name in ANSWER_FIELDS:
        message.ClearField(name)  # type: ignore[arg-type]  # names of fields, as a test sees
    return message.SerializeToString()


def _material(material: Material, total: Effective) -> turn_pb2.Material:
    settings = session_pb2.SessionSettings.FromString(material.settings)
    messages = [message_pb2.Message.FromString(data) for data in material.branch.messages]
    marks = {settings.placement, *(message.placement for message in messages)}
    local_only = message_pb2.PLACEMENT_LOCAL_ONLY
    if material.summary and material.summary.local_only:
        marks.add(local_only)
    return turn_pb2.Material(
        summary=_summary(material.summary) if material.summary else None,
        messages=messages,
        dropped_messages=material.branch.earlier,
        facts=known.facts(material.known, total),
        manner=known.manner(material.known, total, settings),
        placement=local_only if local_only in marks else message_pb2.PLACEMENT_ANY,
        turn_time=Timestamp(seconds=material.time_us // 1_000_000),
    )


def _summary(summary: Summary) -> turn_pb2.Summary:
    return turn_pb2.Summary(
        text=summary.text, messages=summary.messages, through_message_id=summary.through_message_id
    )


class SummaryMarks:
    """Reads what a summary has to know: `context_svc.summaries.Marks`."""

    def local_only(self, settings: bytes, messages: tuple[bytes, ...]) -> bool:
        """Whether any of these may be processed on the machines of the mesh alone."""
        marks = {message_pb2.Message.FromString(data).placement for data in messages}
        marks.add(session_pb2.SessionSettings.FromString(settings).placement)
        return message_pb2.PLACEMENT_LOCAL_ONLY in marks

    def dropped(self, started: bytes) -> int:
        """How many messages were left out."""
        return chat_pb2.TurnStarted.FromString(started).window.dropped_messages


def _budget(budget: Budget, max_cost: int | None) -> turn_pb2.Budget:
    return turn_pb2.Budget(
        max_steps=budget.steps,
        max_calls=budget.calls,
        max_tool_time=_duration(budget.tool_time),
        max_tokens=budget.tokens,
        max_cost_micro_usd=max_cost,
        max_time=_duration(budget.time),
    )


def _duration(span: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(span)
    return duration
