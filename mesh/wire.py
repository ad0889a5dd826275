"""Between the contract's messages and what the terminal shows. Pure."""

import json
from collections.abc import Iterator
from datetime import UTC
from zoneinfo import ZoneInfo, available_timezones

import grpc
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2
from assistant.identity.v1 import identity_pb2
from assistant.message.v1 import message_pb2
from assistant.operator.v1 import operator_pb2
from assistant.reminder.v1 import reminder_pb2
from chassis.status import Failure
from mesh import answer, people
from mesh.consent import Consent, Form
from mesh.cures import CURES
from mesh.errors import CallFailed
from mesh.health import MeshStatus, RoomStatus
from mesh.printable import printable

_STAGES = ("accept", "queue", "window", "first_token", "tools", "wait", "total")
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


def event(message: chat_pb2.ChatEvent, *, documented: bool) -> answer.Event:
    """Answer what an event of the log says."""
    return answer.Event(
        sequence=message.sequence,
        turn=message.turn_id,
        body=_body(message),
        document=document(message) if documented else "",
    )


def document(message: chat_pb2.ChatEvent) -> str:
    """Answer an event as ProtoJSON on one line."""
    return json.dumps(json_format.MessageToDict(message), ensure_ascii=False)


def text_of(message: message_pb2.Message) -> str:
    """Answer the text of a message, its parts joined."""
    return "".join(part.text for part in message.parts)


def model(message: generation_pb2.Model) -> answer.ModelLine:
    """Answer a model of the catalogue as a list shows it."""
    return answer.ModelLine(
        name=message.name,
        title=message.display_name,
        provider=message.provider,
        local=message.local,
        default=message.default,
        context=message.context_tokens,
        state=generation_pb2.ModelState.Name(message.state).removeprefix("MODEL_STATE_").lower(),
    )


def status(message: operator_pb2.GetStatusResponse) -> MeshStatus:
    """Answer the mesh as context_svc sees it."""
    return MeshStatus(
        version=message.version,
        turns={
            "running": message.running_turns,
            "queued": message.queued_turns,
            "waiting": message.waiting_turns,
        },
        setup_needed=message.setup_needed,
        rooms=tuple(
            RoomStatus(
                name=each.name.removesuffix("_svc"),
                version=each.version,
                health=_health_name(each.health),
                note=each.note,
                open_streams=each.open_streams if each.HasField("open_streams") else None,
            )
            for each in message.rooms
        ),
    )


def user(message: operator_pb2.UserSummary) -> people.UserLine:
    """Answer an account as the owner sees it."""
    return people.UserLine(
        id=message.account_id,
        email=message.email,
        name=message.display_name,
        state=operator_pb2.AccountState.Name(message.state).removeprefix("ACCOUNT_STATE_").lower(),
        last_use=moment(message.last_use_time) if message.HasField("last_use_time") else "",
        devices=message.device_count,
        sessions=message.session_count,
    )


def backup(told: operator_pb2.CreateBackupResponse) -> people.Backup:
    """A backup that was made."""
    made = told.backup
    return people.Backup(
        location=made.location,
        size=made.size,
        expires=moment(made.expire_time),
    )


def restored(told: operator_pb2.RestoreBackupResponse) -> people.Restored:
    """What a restore did."""
    return people.Restored(
        log_epoch=told.log_epoch,
        previous=told.previous_state.location,
        reapplied=told.reapplied_erasures,
    )


def invite(message: operator_pb2.CreateInviteResponse) -> people.Invite:
    """Answer an invite."""
    return people.Invite(code=message.invite_code, expires=moment(message.expire_time))


def device(message: identity_pb2.Device) -> people.DeviceLine:
    """Answer a device of the person."""
    return people.DeviceLine(
        id=message.id,
        name=message.name,
        last_use=moment(message.last_use_time),
        network=message.last_network,
        signed_in=message.signed_in,
        current=message.current,
    )


def action(message: agent_pb2.Action) -> people.ActionLine:
    """Answer an action: the first line of what it does."""
    return people.ActionLine(
        name=message.name,
        state=_words(agent_pb2.ActionState.Name(message.state), "ACTION_STATE_"),
        effect=_words(chat_pb2.EffectClass.Name(message.effect_class), "EFFECT_CLASS_"),
        agent=message.agent,
        description=message.description.partition("\n")[0],
        origin=_words(agent_pb2.ActionOrigin.Name(message.origin), "ACTION_ORIGIN_"),
        why=message.state_message,
    )


def reminder(message: reminder_pb2.Reminder) -> answer.ReminderLine:
    """Answer a reminder, its time in the zone that the person had in mind."""
    zone = ZoneInfo(message.time_zone) if message.time_zone in available_timezones() else UTC
    due = message.due_time.ToDatetime(UTC).astimezone(zone)
    state = _words(reminder_pb2.ReminderState.Name(message.state), "REMINDER_STATE_")
    return answer.ReminderLine(
        id=message.id,
        text=message.text,
        due=f"{due:%Y-%m-%d %H:%M} {message.time_zone or 'UTC'}",
        state=f"{state}, late" if message.late else state,
    )


def _words(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")


def me(message: identity_pb2.GetCurrentUserResponse) -> people.Me:
    """Answer who is signed in."""
    return people.Me(
        id=message.account.id,
        email=message.account.email,
        name=message.account.display_name,
        device=message.device.id,
    )


def account_import(message: identity_pb2.AccountImport) -> people.Import:
    """How far an import is."""
    return people.Import(
        id=message.id,
        received=message.received_size,
        finished=message.state == identity_pb2.IMPORT_STATE_FINISHED,
        failed=message.state == identity_pb2.IMPORT_STATE_FAILED,
        progress=message.progress,
        added=dict(message.added_counts),
        failure=message.failure_message,
    )


def export_failed(message: identity_pb2.ExportFailed) -> CallFailed:
    """Why an export could not be finished."""
    reason = error_pb2.ErrorReason.Name(message.reason).removeprefix("ERROR_REASON_")
    return CallFailed(message.message, "Run the command again.", reason=reason, passing=True)


def new_message(question: answer.Question) -> chat_pb2.NewMessage:
    """Answer the message to send."""
    message = chat_pb2.NewMessage(
        session_id=question.session,
        client_message_id=question.id,
        parts=[message_pb2.Part(text=question.text)],
    )
    if question.model is not None:
        message.options.model = question.model
    return message


def again(wish: answer.Again) -> chat_pb2.RegenerateTurnRequest:
    """Answer the request for another answer."""
    request = chat_pb2.RegenerateTurnRequest(session_id=wish.session, turn_id=wish.turn, request_id=wish.id)
    if wish.model is not None:
        request.options.model = wish.model
    return request


def approval(asked: answer.ApprovalAsked, consent: Consent) -> chat_pb2.ApprovalAnswer:
    """Answer the decision on an action."""
    decision = chat_pb2.APPROVAL_DECISION_EDIT if consent.edited else chat_pb2.APPROVAL_DECISION_APPROVE
    return chat_pb2.ApprovalAnswer(
        approval_id=asked.approval_id,
        decision=decision if consent.allowed else chat_pb2.APPROVAL_DECISION_DENY,
        arguments_sha256=asked.digest,
        edited_arguments_json=consent.edited if consent.allowed else "",
    )


def filled(asked: answer.Asked, form: Form) -> chat_pb2.InputAnswer:
    """Answer the reply to a question."""
    return chat_pb2.InputAnswer(
        input_id=asked.input_id, declined=form.content is None, content_json=form.content or ""
    )


def call_failed(failure: Failure) -> CallFailed:
    """Answer a failed call in words for a person."""
    return CallFailed(
        _what(failure),
        _cure(failure),
        reason=failure.reason,
        passing=failure.code in _PASSING,
    )


def receipt(message: chat_pb2.TurnReceipt) -> answer.Receipt:
    """Answer what a receipt says, line by line."""
    return answer.Receipt(lines=tuple((name, printable(told)) for name, told in _receipt_lines(message)))


def _health_name(health: operator_pb2.RoomHealth.ValueType) -> str:
    return operator_pb2.RoomHealth.Name(health).removeprefix("ROOM_HEALTH_").lower().replace("_", " ")


def moment(moment: Timestamp) -> str:
    """A time as the terminal shows it, in UTC."""
    return moment.ToDatetime().strftime("%Y-%m-%d %H:%M")


def _what(failure: Failure) -> str:
    if failure.reason is None and failure.code is grpc.StatusCode.UNAVAILABLE:
        return "The mesh does not answer."
    fields = "; ".join(f"{each.field}: {each.description}" for each in failure.violations)
    said = failure.message or failure.code.name
    return f"{said} ({fields})" if fields else said


def _cure(failure: Failure) -> str:
    if failure.retry_after is not None:
        return f"Try again in {max(1, round(failure.retry_after.total_seconds()))} s."
    cure = CURES.get(failure.reason or "", "")
    if not cure and failure.code is grpc.StatusCode.UNAVAILABLE:
        cure = "Is it running? `mesh status` tells; `make run` starts it."
    named = f" Request id {failure.request_id}." if failure.request_id else ""
    return (cure or "`mesh doctor` may say why.") + named


def _body(message: chat_pb2.ChatEvent) -> answer.Body:
    match message.WhichOneof("event"):
        case "turn_accepted":
            return answer.Accepted()
        case "turn_started":
            return answer.Began(model=message.turn_started.model.model)
        case "text_delta":
            return answer.Said(text=message.text_delta.text)
        case "turn_finished" | "turn_failed" | "turn_cancelled":
            return _end(message)
        case "tool_started" | "tool_finished":
            return _tool(message)
        case "approval_requested" | "input_requested":
            return _wait(message)
        case "reminder_due":
            return answer.Reminded(text=message.reminder_due.text, late=message.reminder_due.late)
        case "job_finished":
            return answer.JobEnded(message=message.job_finished.message)
        case _:
            return answer.Other()


def _end(message: chat_pb2.ChatEvent) -> answer.Last:
    if message.HasField("turn_finished"):
        whole = message.turn_finished.message
        return answer.Finished(text=text_of(whole), model=whole.model)
    if message.HasField("turn_failed"):
        failed = message.turn_failed
        reason = error_pb2.ErrorReason.Name(failed.reason).removeprefix("ERROR_REASON_")
        return answer.Failed(reason=reason, message=failed.message, retryable=failed.retryable)
    return answer.Cancelled()


def _tool(message: chat_pb2.ChatEvent) -> answer.ToolBegan | answer.ToolEnded:
    if message.HasField("tool_started"):
        began = message.tool_started
        return answer.ToolBegan(call_id=began.call_id, action=began.action, arguments=began.arguments_json)
    ended = message.tool_finished
    done = ended.outcome == chat_pb2.TOOL_OUTCOME_DONE
    said = (
        ended.error.message or chat_pb2.ToolOutcome.Name(ended.outcome).removeprefix("TOOL_OUTCOME_").lower()
    )
    return answer.ToolEnded(
        call_id=ended.call_id, action=ended.action, result=ended.result, failure="" if done else said
    )


def _wait(message: chat_pb2.ChatEvent) -> answer.ApprovalAsked | answer.Asked:
    if message.HasField("approval_requested"):
        asked = message.approval_requested
        return answer.ApprovalAsked(
            approval_id=asked.approval_id,
            action=asked.action,
            arguments=asked.arguments_json,
            digest=asked.arguments_sha256,
        )
    question = message.input_requested
    return answer.Asked(input_id=question.input_id, question=question.message, form=question.form_json_schema)


def _receipt_lines(receipt: chat_pb2.TurnReceipt) -> Iterator[tuple[str, str]]:
    model = receipt.model
    if model.model:
        yield "model", f"{model.model} ({'on this mesh' if model.local else model.provider or 'elsewhere'})"
    yield "tokens", _tokens(receipt.usage)
    yield "cost", f"${receipt.usage.cost_micro_usd / 1e6:.6f}"
    yield "time", ", ".join(_times(receipt.latencies))
    if receipt.window.kept_messages:
        yield "seen", _window(receipt.window)
    for call in receipt.calls:
        outcome = chat_pb2.ToolOutcome.Name(call.outcome).removeprefix("TOOL_OUTCOME_").lower()
        yield "action", f"{call.action}: {outcome}, {_span(call.duration)}"
    if receipt.context_keys:
        yield "context", ", ".join(receipt.context_keys)
    for each in receipt.egress:
        yield "left the mesh", f"{each.content} to {each.destination}, {each.bytes:,} bytes"
    if not receipt.egress:
        yield "left the mesh", "nothing"


def _tokens(usage: message_pb2.Usage) -> str:
    told = f"{usage.input_tokens:,} read ({usage.cached_tokens:,} cached), {usage.output_tokens:,} written"
    return f"{told}, estimated" if usage.estimated else told


def _window(window: chat_pb2.WindowReport) -> str:
    counts = {
        "messages": window.kept_messages,
        "summarised": window.summarised_messages,
        "left out": window.dropped_messages,
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{told}; {window.window_tokens:,} of {window.budget_tokens:,} tokens"


def _times(latencies: chat_pb2.StageLatencies) -> Iterator[str]:
    for stage in _STAGES:
        if latencies.HasField(stage):  # type: ignore[arg-type]  # names of its fields
            yield f"{stage.replace('_', ' ')} {_span(getattr(latencies, stage))}"


def _span(duration: Duration) -> str:
    seconds = duration.ToTimedelta().total_seconds()
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
