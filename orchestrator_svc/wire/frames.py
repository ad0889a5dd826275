"""What a turn sends: its events, its end, its receipt, and what it asks of context_svc."""

from __future__ import annotations

from typing import Any, assert_never

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2 as chat
from assistant.generation.v1 import generation_pb2 as generation
from assistant.message.v1 import message_pb2 as msg
from assistant.turn.v1 import turn_pb2 as pb
from orchestrator_svc.conversation import (
    Described,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from orchestrator_svc.effects import (
    Answer,
    ApprovalRequested,
    CallEntry,
    Cancelled,
    EgressEntry,
    Emit,
    Ending,
    Event,
    Fail,
    Finish,
    HostCall,
    InputRequested,
    ReasoningDelta,
    Receipt,
    Request,
    Stage,
    StepEntry,
    Suspend,
    TextDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    TurnStarted,
    WindowEntry,
)
from orchestrator_svc.inputs import Failed
from orchestrator_svc.material import Counters, ModelChoice
from orchestrator_svc.outbox import Frame, Progress
from orchestrator_svc.policy import Cause
from orchestrator_svc.tools.tool import Effect, Lack, Origin, Tool
from orchestrator_svc.window import Report
from orchestrator_svc.wire import vocabulary as voc
from orchestrator_svc.wire.orders import SOURCES

_EFFECTS = {
    Effect.NONE: chat.EFFECT_CLASS_NONE,
    Effect.READS_OUT: chat.EFFECT_CLASS_READS_OUT,
    Effect.EFFECT: chat.EFFECT_CLASS_EFFECT,
}
_ORIGINS = {
    Origin.BUILT_IN: agent_pb2.ACTION_ORIGIN_BUILT_IN,
    Origin.PLUGIN: agent_pb2.ACTION_ORIGIN_PLUGIN,
    Origin.MCP: agent_pb2.ACTION_ORIGIN_MCP,
}
_LACKS = {
    Lack.NOT_CONFIGURED: agent_pb2.ACTION_STATE_NOT_CONFIGURED,
    Lack.CHANGED: agent_pb2.ACTION_STATE_CHANGED,
    Lack.FAILED: agent_pb2.ACTION_STATE_FAILED,
}
_ENDINGS = {
    Ending.DONE: chat.TOOL_OUTCOME_DONE,
    Ending.FAILED: chat.TOOL_OUTCOME_FAILED,
    Ending.DENIED: chat.TOOL_OUTCOME_DENIED,
    Ending.CANCELLED: chat.TOOL_OUTCOME_CANCELLED,
    Ending.IN_DOUBT: chat.TOOL_OUTCOME_IN_DOUBT,
}
_CAUSES = {
    Cause.EFFECT: chat.APPROVAL_CAUSE_EFFECT,
    Cause.UNTRUSTED_CONTENT: chat.APPROVAL_CAUSE_UNTRUSTED_CONTENT,
    Cause.SETTING: chat.APPROVAL_CAUSE_SETTING,
}
_STAGES = {
    Stage.UNKNOWN: chat.TURN_STAGE_UNSPECIFIED,
    Stage.WINDOW: chat.TURN_STAGE_WINDOW,
    Stage.MODEL: chat.TURN_STAGE_MODEL,
    Stage.TOOL: chat.TURN_STAGE_TOOL,
    Stage.WAIT: chat.TURN_STAGE_WAIT,
}


def response(frame: Frame, turn_id: str) -> pb.RunTurnResponse:
    """One frame of the answer."""
    match frame:
        case Emit(event=event):
            return pb.RunTurnResponse(event=chat_event(event, turn_id), left_behind=_left_behind(event))
        case Finish():
            ended = chat.ChatEvent(turn_id=turn_id, turn_finished=finished(frame))
            return pb.RunTurnResponse(event=ended)
        case Fail():
            return pb.RunTurnResponse(event=chat.ChatEvent(turn_id=turn_id, turn_failed=failed(frame)))
        case Cancelled():
            cancelled = chat.TurnCancelled(
                partial=_optional(frame.partial), usage=voc.usage_part(frame.usage)
            )
            return pb.RunTurnResponse(event=chat.ChatEvent(turn_id=turn_id, turn_cancelled=cancelled))
        case HostCall(call=call):
            return pb.RunTurnResponse(host_call=voc.call_part(call))
        case Suspend():
            return pb.RunTurnResponse(suspended=suspended(frame))
        case Receipt():
            return pb.RunTurnResponse(receipt=receipt(frame))
        case Progress(stage=stage):
            return pb.RunTurnResponse(progress=pb.TurnProgress(stage=_STAGES[stage]))
        case _:
            assert_never(frame)


def chat_event(event: Event, turn_id: str) -> chat.ChatEvent:
    """An event of the turn, without session, sequence and time."""
    match event:
        case TextDelta(text=text):
            return chat.ChatEvent(turn_id=turn_id, text_delta=chat.TextDelta(text=text))
        case ReasoningDelta(text=text):
            return chat.ChatEvent(turn_id=turn_id, reasoning_delta=chat.ReasoningDelta(text=text))
        case TurnStarted():
            return chat.ChatEvent(turn_id=turn_id, turn_started=_turn_started(event))
        case ToolStarted():
            return chat.ChatEvent(turn_id=turn_id, tool_started=_tool_started(event))
        case ToolProgress(call_id=call_id, message=message, fraction=fraction):
            progress = chat.ToolProgress(call_id=call_id, message=message, fraction=fraction)
            return chat.ChatEvent(turn_id=turn_id, tool_progress=progress)
        case ToolFinished():
            return chat.ChatEvent(turn_id=turn_id, tool_finished=_tool_finished(event))
        case ApprovalRequested():
            return chat.ChatEvent(turn_id=turn_id, approval_requested=approval(event))
        case InputRequested():
            return chat.ChatEvent(turn_id=turn_id, input_requested=question(event))
        case _:
            assert_never(event)


def finished(frame: Finish) -> chat.TurnFinished:
    """A whole answer."""
    return chat.TurnFinished(message=answer(frame.answer), usage=voc.usage_part(frame.usage))


def failed(frame: Fail) -> chat.TurnFailed:
    """A failure, with what was said before."""
    return chat.TurnFailed(
        reason=voc.reason(frame.reason),
        message=frame.message,
        retryable=frame.retryable,
        stage=_STAGES[frame.stage],
        partial=_optional(frame.partial),
        usage=voc.usage_part(frame.usage),
    )


def suspended(frame: Suspend) -> pb.Suspended:
    """Where a turn stopped, and what it waits for."""
    stopped = frame.resumption
    return pb.Suspended(
        pending=map(_pending, frame.pending),
        resumption=pb.Resumption(
            counters=_counters(stopped.counters),
            steps=map(window_message, stopped.steps),
            text=stopped.text,
            model=choice(stopped.model) if stopped.model else None,
        ),
    )


def receipt(frame: Receipt) -> pb.ReceiptEntry:
    """An entry of the receipt."""
    match frame.entry:
        case StepEntry(model=model, usage=usage, duration=took, reason=reason):
            step = chat.StepReceipt(
                model=model,
                usage=voc.usage_part(usage),
                duration=voc.duration(took),
                finish_reason=voc.FINISHES[reason],
            )
            return pb.ReceiptEntry(step=step)
        case CallEntry() as entry:
            call = chat.CallReceipt(
                call_id=entry.call_id,
                action=entry.action,
                agent=entry.agent,
                outcome=_ENDINGS[entry.ending],
                duration=voc.duration(entry.duration),
            )
            return pb.ReceiptEntry(call=call)
        case EgressEntry(destination=destination, content=content, size=size):
            return pb.ReceiptEntry(egress=chat.Egress(destination=destination, content=content, bytes=size))
        case WindowEntry(duration=took):
            return pb.ReceiptEntry(window_time=voc.duration(took))


def answer(answer_: Answer) -> msg.Message:
    """What was said and done in a turn, as its message."""
    return msg.Message(
        id=answer_.id,
        role=msg.ROLE_ASSISTANT,
        parts=map(_part, answer_.parts),
        model=answer_.model,
        partial=answer_.partial,
        placement=voc.PLACEMENTS[answer_.placement],
        finish_reason=voc.FINISHES[answer_.finish_reason],
    )


def window_message(message: Message) -> generation.WindowMessage:
    """A message of a window."""
    return generation.WindowMessage(
        role=voc.ROLES[message.role], parts=[_window_part(part) for part in message.parts]
    )


def approval(event: ApprovalRequested) -> chat.ApprovalRequested:
    """A question to the person. Its end is set by context_svc, which keeps the time."""
    return chat.ApprovalRequested(
        approval_id=event.approval_id,
        call_id=event.call.call_id,
        action=event.call.action,
        arguments_json=event.call.arguments,
        arguments_sha256=event.arguments_sha256,
        effect_class=_EFFECTS[event.effect],
        cause=_CAUSES[event.cause],
    )


def question(event: InputRequested) -> chat.InputRequested:
    """A question with a form. Its end is set by context_svc."""
    return chat.InputRequested(
        input_id=event.input_id,
        call_id=event.call.call_id,
        message=event.question,
        form_json_schema=event.form,
    )


def choice(choice_: ModelChoice) -> chat.ModelChoice:
    """Which model, and why."""
    return chat.ModelChoice(
        model=choice_.model,
        provider=choice_.provider,
        source=SOURCES[choice_.source],
        skipped_model=choice_.skipped,
        fallback_from=choice_.fallback_from,
        local=choice_.local,
        from_cache=choice_.from_cache,
        input_price_micro_usd=choice_.input_price,
        output_price_micro_usd=choice_.output_price,
    )


def action(tool: Tool[Any]) -> agent_pb2.Action:
    """An action as ListActions names it."""
    return agent_pb2.Action(
        name=tool.name,
        description=tool.description,
        parameters_json_schema=tool.schema,
        effect_class=_EFFECTS[tool.effect],
        agent=tool.agent,
        origin=_ORIGINS[tool.origin],
        timeout=voc.duration(tool.timeout),
        consents=tool.consents,
        context_keys=tool.context_keys,
        state=agent_pb2.ACTION_STATE_READY if tool.ready else _LACKS[tool.lack],
        state_reason=voc.reason(tool.state_reason) if tool.state_reason else voc.NO_REASON,
        state_message=tool.missing,
    )


def _pending(request: Request) -> pb.PendingCall:
    call = voc.call_part(request.call)
    if isinstance(request, ApprovalRequested):
        return pb.PendingCall(call=call, approval=approval(request))
    return pb.PendingCall(call=call, input=question(request))


def _optional(partial: Answer | None) -> msg.Message | None:
    return None if partial is None else answer(partial)


def _turn_started(event: TurnStarted) -> chat.TurnStarted:
    return chat.TurnStarted(
        attempt=event.attempt,
        answer_id=event.answer_id,
        model=choice(event.model) if event.model else None,
        window=_report(event.window),
    )


def _report(report: Report) -> chat.WindowReport:
    return chat.WindowReport(
        kept_messages=report.kept_messages,
        summarised_messages=report.summarised_messages,
        dropped_messages=report.dropped_messages,
        window_tokens=report.window_tokens,
        budget_tokens=report.budget_tokens,
    )


def _tool_started(event: ToolStarted) -> chat.ToolStarted:
    return chat.ToolStarted(
        call_id=event.call.call_id,
        action=event.call.action,
        agent=event.agent,
        arguments_json=event.call.arguments,
        effect_class=_EFFECTS[event.effect],
        step=event.step,
    )


def _tool_finished(event: ToolFinished) -> chat.ToolFinished:
    return chat.ToolFinished(
        call_id=event.call_id,
        action=event.action,
        outcome=_ENDINGS[event.ending],
        result=event.content,
        error=_tool_error(event.error) if event.error else None,
        sources=map(voc.source_part, event.sources),
        next_actions=[
            chat.NextAction(action=each.action, arguments_json=each.arguments) for each in event.next_actions
        ],
        duration=voc.duration(event.duration),
        truncated=event.truncated,
    )


def _left_behind(event: Event) -> pb.LeftBehind | None:
    if not isinstance(event, ToolFinished) or not (event.context_updates or event.background_tasks):
        return None
    return pb.LeftBehind(
        context_updates=[
            pb.ContextUpdate(
                key=each.key,
                value_json=each.value,
                ttl=voc.duration(each.ttl) if each.ttl else None,
                user_scope=each.user_scope,
            )
            for each in event.context_updates
        ],
        background_tasks=[
            pb.BackgroundTask(
                action=each.action,
                arguments_json=each.arguments,
                title=each.title,
                delay=voc.duration(each.delay) if each.delay else None,
                tries=each.tries,
            )
            for each in event.background_tasks
        ],
    )


def _tool_error(error: Failed) -> chat.ToolError:
    return chat.ToolError(
        reason=voc.reason(error.reason), message=error.message, field=error.field, retryable=error.retryable
    )


def _counters(counters: Counters) -> pb.Counters:
    return pb.Counters(
        steps=counters.steps,
        calls=counters.calls,
        tool_time=voc.duration(counters.tool_time),
        usage=voc.usage_part(counters.usage),
        time=voc.duration(counters.time),
    )


def _part(part: Part) -> msg.Part:
    made = msg.Part(trust=voc.TRUSTS[part.trust], provider_state=part.provider_state)
    match part.content:
        case Text(text=text) | Described(text=text):
            made.text = text
        case Reasoning(text=text):
            made.reasoning.CopyFrom(msg.ReasoningPart(text=text))
        case ToolCall() as call:
            made.tool_call.CopyFrom(voc.call_part(call))
        case ToolResult() as result:
            made.tool_result.CopyFrom(voc.result_part(result))
        case _:
            assert_never(part.content)
    return made


def _window_part(part: Part) -> generation.WindowPart:
    trust = voc.TRUSTS[part.trust]
    if isinstance(part.content, Text):  # nearly every part
        return generation.WindowPart(text=part.content.text, trust=trust, provider_state=part.provider_state)
    made = generation.WindowPart(trust=trust, provider_state=part.provider_state)
    match part.content:
        case Described(text=text):
            made.text = text
        case Reasoning(text=text):
            made.reasoning.CopyFrom(msg.ReasoningPart(text=text))
        case ToolCall() as call:
            made.tool_call.CopyFrom(voc.call_part(call))
        case ToolResult() as result:
            made.tool_result.CopyFrom(voc.result_part(result))
        case _:
            assert_never(part.content)
    return made
