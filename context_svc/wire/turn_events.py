"""What turns put into the log beside their words: questions, actions cut off, branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.turn.v1 import turn_pb2
from context_svc.endings import Over
from context_svc.run_frames import Call
from context_svc.waiting import Ask, Pending
from context_svc.wire.encoding import field, moment, present


class TurnEvents:
    """The part of the codec for turns that are more than words."""

    def asked(self, pending: Pending, expire_us: int) -> bytes:
        """A serialised ApprovalRequested or InputRequested, with its end."""
        if pending.ask is Ask.APPROVAL:
            end = chat_pb2.ApprovalRequested(expire_time=moment(expire_us)).SerializeToString()
        else:
            end = chat_pb2.InputRequested(expire_time=moment(expire_us)).SerializeToString()
        return pending.event + end

    def turn_suspended(self, approvals: Sequence[str], questions: Sequence[str], expire_us: int) -> bytes:
        """A serialised TurnSuspended."""
        return chat_pb2.TurnSuspended(
            approval_ids=approvals, input_ids=questions, expire_time=moment(expire_us)
        ).SerializeToString()

    def answered(self, pending: bytes, answer: bytes) -> bytes:
        """A serialised PendingAnswer."""
        return field(turn_pb2.PendingAnswer.PENDING_FIELD_NUMBER, pending) + answer

    def superseded(self) -> bytes:
        """The part of a serialised PendingAnswer that says that a newer message took its place."""
        return turn_pb2.PendingAnswer(superseded=True).SerializeToString()

    def stopped_at(self, resumption: bytes, over: Over) -> Over:
        """The end of a turn that had stopped there: what it said and used before comes first."""
        before = turn_pb2.Resumption.FromString(resumption)
        text = before.text + over.text
        return replace(
            over,
            text=text,
            message=body_of(text) if text else b"",
            usage=over.usage or before.counters.usage.SerializeToString(),
        )

    def call(self, event: bytes) -> Call:
        """The call of a serialised ChatEvent that tells of its begin or its end."""
        read = chat_pb2.ChatEvent.FromString(event)
        return call_of(read.tool_started if read.HasField("tool_started") else read.tool_finished)

    def given_call(self, call_id: str, action: str, arguments: str) -> bytes:
        """A serialised ToolCallPart."""
        return message_pb2.ToolCallPart(
            call_id=call_id, action=action, arguments_json=arguments
        ).SerializeToString()

    def tool_stopped(self, call: Call, *, in_doubt: bool) -> bytes:
        """A serialised ToolFinished of an action that was cut off."""
        outcome = chat_pb2.TOOL_OUTCOME_IN_DOUBT if in_doubt else chat_pb2.TOOL_OUTCOME_CANCELLED
        doubt, cancelled = error_pb2.ERROR_REASON_EFFECT_IN_DOUBT, error_pb2.ERROR_REASON_ACTION_CANCELLED
        error = chat_pb2.ToolError(
            reason=doubt if in_doubt else cancelled, message="The turn ended while the action ran."
        )
        return chat_pb2.ToolFinished(
            call_id=call.id, action=call.action, outcome=outcome, error=error
        ).SerializeToString()

    def turn_accepted_again(
        self, message: bytes, options: bytes, action: bytes | None, turn_id: str
    ) -> bytes:
        """A serialised TurnAccepted of a turn that repeats another one."""
        accepted = chat_pb2.TurnAccepted
        again = accepted(regenerated_turn_id=turn_id).SerializeToString()
        return again + present(
            (accepted.MESSAGE_FIELD_NUMBER, message),
            (accepted.OPTIONS_FIELD_NUMBER, options),
            (accepted.ACTION_FIELD_NUMBER, action or b""),
        )

    def action_accepted(self, action: bytes) -> bytes:
        """A serialised TurnAccepted of an action."""
        return field(chat_pb2.TurnAccepted.ACTION_FIELD_NUMBER, action)

    def offline_answer(
        self, body: bytes, *, answer_id: str, session_id: str, parent_id: str, sequence: int, time_us: int
    ) -> bytes:
        """The stored form of an answer that a device made."""
        added = message_pb2.Message(
            id=answer_id,
            session_id=session_id,
            parent_id=parent_id,
            role=message_pb2.ROLE_ASSISTANT,
            create_time=moment(time_us),
            sequence=sequence,
        )
        return body + added.SerializeToString()

    def answer_imported(self, message: bytes, answer: bytes, *, replaced: bool) -> bytes:
        """A serialised AnswerImported."""
        imported = chat_pb2.AnswerImported
        return imported(replaced=replaced).SerializeToString() + present(
            (imported.MESSAGE_FIELD_NUMBER, message), (imported.ANSWER_FIELD_NUMBER, answer)
        )


def body_of(text: str) -> bytes:
    """The body of an answer that broke off."""
    part = message_pb2.Part(text=text, trust=message_pb2.TRUST_UNTRUSTED)
    return message_pb2.Message(parts=[part]).SerializeToString()


def call_of(told: chat_pb2.ToolStarted | chat_pb2.ToolFinished) -> Call:
    """The call that an event tells of; an unknown class of effect counts as one."""
    if isinstance(told, chat_pb2.ToolFinished):
        outcome = chat_pb2.ToolOutcome.Name(told.outcome).removeprefix("TOOL_OUTCOME_").lower()
        return Call(id=told.call_id, action=told.action, outcome=outcome)
    harmless = (chat_pb2.EFFECT_CLASS_NONE, chat_pb2.EFFECT_CLASS_READS_OUT)
    effect = told.effect_class not in harmless
    return Call(id=told.call_id, action=told.action, agent=told.agent, effect=effect, step=told.step)
