"""The conversation on the wire. Pure: protos to what the room knows, and back.

Events are serialised once and kept as bytes. The protobuf encoding lets messages be put together from
serialised pieces, their fields in any order (https://protobuf.dev/programming-guides/encoding). So an envelope is
added to an event, and the server's fields to a message, without decoding either. No piece may repeat a field of
another: parsers take the last value, but a JSON transcoder ends the stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from google.protobuf.message import Message as ProtoMessage

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis.errors import InvalidRequest, NotServed, Violation
from chassis.status import to_status
from chassis.validation import violations
from context_svc.actions.searching import Utterance
from context_svc.claims import Claim
from context_svc.conversations import (
    EventPage,
    Incoming,
    Opened,
    Replied,
    Said,
    Shown,
    Stopped,
    Unreadable,
    unreadable,
)
from context_svc.endings import Over
from context_svc.job_rows import JobState
from context_svc.messages import Page
from context_svc.readers import Beat, Closed, Frame, Refused
from context_svc.reminder_rows import Reminder
from context_svc.search import MatchPage
from context_svc.session_rows import Session
from context_svc.sessions import Listed
from context_svc.snapshots import Cursor, Snapshot
from context_svc.turn_rows import TurnState
from context_svc.turns import BusyPolicy, Submission
from context_svc.wire.encoding import field, moment, present
from context_svc.wire.leavings import HostWords
from context_svc.wire.receipts import ReceiptForm
from context_svc.wire.replies import reply
from context_svc.wire.session import open_turn
from context_svc.wire.session import session as session_message
from context_svc.wire.turn_events import TurnEvents, body_of

DOMAIN = "assistant.mesh"
PREVIEW = 200
METADATA_BYTES = 4096
ANSWER_FIELDS = ("id", "session_id", "turn_id", "parent_id", "role", "create_time", "sequence", "partial")
"""What `ChatCodec.answer` adds to the body of an answer, which must come without it."""

_OUTCOMES = {
    JobState.DONE: chat_pb2.JOB_OUTCOME_DONE,
    JobState.FAILED: chat_pb2.JOB_OUTCOME_FAILED,
    JobState.CANCELLED: chat_pb2.JOB_OUTCOME_CANCELLED,
    JobState.IN_DOUBT: chat_pb2.JOB_OUTCOME_IN_DOUBT,
}
_EVENT = chat_pb2.SubscribeEventsResponse.EVENT_FIELD_NUMBER  # the same in every stream's frame
Response = TypeVar("Response", bound=ProtoMessage)


def submission(message: chat_pb2.NewMessage, account_id: str) -> Submission:
    """A checked message on its way in."""
    options = message.options.SerializeToString(deterministic=True)
    return Submission(
        account_id=account_id,
        session_id=message.session_id,
        message_id=message.client_message_id,
        parent_id=message.parent_id,
        body=_body(message),
        body_hash=_hash(message),
        options=options,
        preview=text_of(message.parts)[:PREVIEW],
        policy=BusyPolicy(message.busy_policy or BusyPolicy.QUEUE),
    )


def checked_submission(message: chat_pb2.NewMessage, account_id: str) -> Submission:
    """A message on its way in. Raises InvalidRequest for what the rules beside the fields cannot say."""
    found = new_message_violations(message)
    if found:
        raise InvalidRequest(violations=found)
    return submission(message, account_id)


def list_cursor(request: chat_pb2.ListEventsRequest) -> Cursor:
    """Where a page of the log begins."""
    return Cursor(session_id=request.session_id, log_epoch=request.log_epoch, sequence=request.after_sequence)


def new_message_violations(message: chat_pb2.NewMessage) -> tuple[Violation, ...]:
    """What the rules beside the fields cannot say: sizes of whole maps, parts that only the server writes."""
    found = [
        Violation(
            field=f"message.parts[{index}]",
            description="clients do not send this kind of part",
            rule="part.kind",
        )
        for index, part in enumerate(message.parts)
        if part.WhichOneof("content") in ("tool_call", "tool_result", "reasoning")
    ]
    size = sum(len(key.encode()) + len(value.encode()) for key, value in message.client_metadata.items())
    if size > METADATA_BYTES:
        found.append(
            Violation(
                field="message.client_metadata",
                description=f"must not exceed {METADATA_BYTES} bytes in all",
                rule="map.max_bytes",
            )
        )
    return tuple(found)


def incoming(request: chat_pb2.ChatRequest, account_id: str) -> Incoming:
    """A frame of a Chat stream; one that breaks the rules comes back as Unreadable."""
    client_id = _client_id(request)
    found = violations(request)
    if found:
        return unreadable(client_id, found)
    match request.WhichOneof("frame"):
        case "open":
            return Opened(tuple(cursor(each) for each in request.open.cursors))
        case "message":
            found = new_message_violations(request.message)
            return unreadable(client_id, found) if found else Said(submission(request.message, account_id))
        case "cancel":
            return Stopped(
                session_id=request.cancel.session_id,
                turn_id=request.cancel.turn_id,
                request_id=request.cancel.request_id,
            )
        case "respond":
            return Replied(reply(request.respond, account_id))
        case "acknowledge":
            return Shown(tuple(cursor(each) for each in request.acknowledge.cursors))
        case _:
            return Unreadable(client_id=client_id, error=NotServed())


def cursor(position: session_pb2.SessionCursor) -> Cursor:
    """A position in a log."""
    return Cursor(session_id=position.session_id, log_epoch=position.log_epoch, sequence=position.sequence)


_QUIET = chat_pb2.ChatResponse(heartbeat=chat_pb2.Heartbeat()).SerializeToString()


def frame(sent: Frame, response: type[Response]) -> Response:
    """A frame of a reading stream, serialised: the boundary passes bytes through unchanged.

    `response` is the stream's own message: all of them number their frames alike.
    """
    match sent:
        case Beat(()):
            data = _QUIET
        case Beat(positions):
            data = chat_pb2.ChatResponse(
                heartbeat=chat_pb2.Heartbeat(positions=_positions(positions))
            ).SerializeToString()
        case Closed(reason, positions):
            data = chat_pb2.ChatResponse(
                closed=chat_pb2.StreamClosed(reason=int(reason), positions=_positions(positions))  # type: ignore[arg-type]
            ).SerializeToString()
        case Refused(client_id, error, request_id):
            status = to_status(error, domain=DOMAIN, request_id=request_id)
            data = chat_pb2.ChatResponse(
                rejected=chat_pb2.Rejected(client_message_id=client_id, status=status)
            ).SerializeToString()
        case Snapshot():
            data = chat_pb2.ChatResponse(snapshot=_snapshot(sent)).SerializeToString()
        case _:
            data = field(_EVENT, sent.data)
    return cast("Response", data)


def event_page(page: EventPage) -> chat_pb2.ListEventsResponse:
    """A page of a log."""
    return chat_pb2.ListEventsResponse(
        snapshot=_snapshot(page.snapshot) if page.snapshot else None,
        events=[chat_pb2.ChatEvent.FromString(entry.data) for entry in page.entries],
        next=_positions([page.next])[0],
        at_end=page.at_end,
    )


def _snapshot(value: Snapshot) -> chat_pb2.Snapshot:
    asked, through = _positions([value.asked, value.through])
    data = chat_pb2.Snapshot(
        through=through,
        messages=[message_pb2.Message.FromString(each) for each in value.messages],
        has_older=value.has_older,
        session=session_message(
            Listed(session=value.session, open_turns=value.open_turns), value.through.log_epoch
        ),
        open_turns=[open_turn(each) for each in value.open_turns],
    )
    getattr(data, "from").CopyFrom(asked)  # a word of Python
    return data


def message_page(page: Page) -> chat_pb2.ListMessagesResponse:
    """A page of a history."""
    return chat_pb2.ListMessagesResponse(
        messages=[message_pb2.Message.FromString(data) for data in page.messages],
        next_page_token=page.next_page_token,
    )


def stored_text(data: bytes) -> str:
    """The text of a stored message."""
    return text_of(message_pb2.Message.FromString(data).parts)


def said(data: bytes) -> Utterance:
    """Who said a stored message, when and where."""
    message = message_pb2.Message.FromString(data)
    return Utterance(
        session_id=message.session_id,
        turn_id=message.turn_id,
        by_person=message.role == message_pb2.ROLE_USER,
        time_us=message.create_time.ToMicroseconds(),
    )


def match_page(page: MatchPage) -> chat_pb2.SearchMessagesResponse:
    """A page of findings."""
    return chat_pb2.SearchMessagesResponse(
        matches=[
            chat_pb2.MessageMatch(
                message=message_pb2.Message.FromString(match.message),
                snippet=match.passage.text,
                highlights=[
                    chat_pb2.Highlight(start=start, end=end) for start, end in match.passage.stretches
                ],
            )
            for match in page.matches
        ],
        next_page_token=page.next_page_token,
    )


def message_response(data: bytes) -> chat_pb2.GetMessageResponse:
    """One message."""
    return chat_pb2.GetMessageResponse(message=message_pb2.Message.FromString(data))


def rated(request: chat_pb2.RateMessageRequest) -> Callable[[bytes], bytes]:
    """What puts the verdict into a stored message; no verdict takes the one before back."""

    def apply(data: bytes) -> bytes:
        message = message_pb2.Message.FromString(data)
        message.ClearField("rating")
        if request.rating.verdict:
            message.rating.CopyFrom(request.rating)
        return message.SerializeToString()

    return apply


def rated_response(data: bytes) -> chat_pb2.RateMessageResponse:
    """The rated message."""
    return chat_pb2.RateMessageResponse(message=message_pb2.Message.FromString(data))


def acknowledged(cursors: Sequence[Cursor]) -> chat_pb2.AckEventsResponse:
    """What is stored now."""
    return chat_pb2.AckEventsResponse(cursors=_positions(cursors))


def cancelled(state: TurnState) -> chat_pb2.CancelTurnResponse:
    """Where the turn stood."""
    return chat_pb2.CancelTurnResponse(state=int(state))  # type: ignore[arg-type]


def text_of(parts: Sequence[message_pb2.Part]) -> str:
    """The text of a message, its text parts joined."""
    return "\n".join(part.text for part in parts if part.WhichOneof("content") == "text")


def words(messages: Sequence[bytes]) -> str:
    """All the text of stored messages."""
    return "\n".join(text_of(message_pb2.Message.FromString(each).parts) for each in messages)


class ChatCodec(TurnEvents, ReceiptForm, HostWords):
    """Writes events and messages in their stored form; the codec of journal, turns, runs and sessions."""

    def __init__(self, log_epoch: str) -> None:
        self._log_epoch = log_epoch

    def session_changed(self, session: Session, changed: Sequence[str], sequence: int) -> bytes:
        """A serialised SessionChanged."""
        now = session_message(
            Listed(session=replace(session, last_sequence=sequence), open_turns=()), self._log_epoch
        )
        return chat_pb2.SessionChanged(session=now, changed=changed).SerializeToString()

    def context_changed(self, version: int, keys: Sequence[str]) -> bytes:
        """A serialised ContextChanged of a session's scope."""
        return chat_pb2.ContextChanged(version=version, keys=keys).SerializeToString()

    def reminder_due(self, reminder: Reminder) -> bytes:
        """A serialised ReminderDue."""
        return chat_pb2.ReminderDue(
            reminder_id=reminder.id, text=reminder.text, due_time=moment(reminder.due_us), late=reminder.late
        ).SerializeToString()

    def job_finished(self, job_id: str, state: JobState, message: str) -> bytes:
        """A serialised JobFinished."""
        return chat_pb2.JobFinished(
            job_id=job_id, outcome=_OUTCOMES[state], message=message
        ).SerializeToString()

    def messages_cleared(self, through: int) -> bytes:
        """A serialised MessagesCleared."""
        return chat_pb2.MessagesCleared(through_sequence=through).SerializeToString()

    def event(
        self, kind: int, payload: bytes, *, session_id: str, turn_id: str, sequence: int, time_us: int
    ) -> bytes:
        """A serialised ChatEvent."""
        envelope = chat_pb2.ChatEvent(
            session_id=session_id, sequence=sequence, turn_id=turn_id, create_time=moment(time_us)
        )
        return envelope.SerializeToString() + field(kind, payload)

    def message(
        self,
        body: bytes,
        *,
        message_id: str,
        session_id: str,
        turn_id: str,
        parent_id: str,
        sequence: int,
        time_us: int,
    ) -> bytes:
        """The stored form of a person's message."""
        added = message_pb2.Message(
            id=message_id,
            session_id=session_id,
            turn_id=turn_id,
            parent_id=parent_id,
            role=message_pb2.ROLE_USER,
            create_time=moment(time_us),
            sequence=sequence,
        )
        return body + added.SerializeToString()

    def answer(self, body: bytes, claim: Claim, *, partial: bool, sequence: int, time_us: int) -> bytes:
        """The stored form of the agent's message."""
        added = message_pb2.Message(
            id=claim.answer_id,
            session_id=claim.session_id,
            turn_id=claim.turn_id,
            parent_id=claim.below,
            role=message_pb2.ROLE_ASSISTANT,
            create_time=moment(time_us),
            sequence=sequence,
            partial=partial,
        )
        return body + added.SerializeToString()

    def partial_body(self, text: str) -> bytes:
        """The body of an answer that broke off."""
        return body_of(text)

    def turn_accepted(self, message: bytes, options: bytes) -> bytes:
        """A serialised TurnAccepted."""
        accepted = chat_pb2.TurnAccepted
        return field(accepted.MESSAGE_FIELD_NUMBER, message) + (
            field(accepted.OPTIONS_FIELD_NUMBER, options) if options else b""
        )

    def text_delta(self, text: str) -> bytes:
        """A serialised TextDelta; ReasoningDelta has the same form."""
        return chat_pb2.TextDelta(text=text).SerializeToString()

    def delta_text(self, event: bytes) -> str:
        """The text of a serialised ChatEvent that holds a TextDelta or a ReasoningDelta."""
        told = chat_pb2.ChatEvent.FromString(event)
        return told.text_delta.text or told.reasoning_delta.text

    def started(self, event: bytes, attempt: int) -> bytes:
        """The TurnStarted of a serialised ChatEvent; empty for one of another attempt."""
        started = chat_pb2.ChatEvent.FromString(event).turn_started
        return started.SerializeToString() if started.attempt == attempt else b""

    def turn_finished(self, message: bytes, usage: bytes) -> bytes:
        """A serialised TurnFinished."""
        finished = chat_pb2.TurnFinished
        return field(finished.MESSAGE_FIELD_NUMBER, message) + field(finished.USAGE_FIELD_NUMBER, usage)

    def turn_failed(self, over: Over, partial: bytes) -> bytes:
        """A serialised TurnFailed."""
        failed = chat_pb2.TurnFailed(
            reason=_reason(over.reason),
            message=over.explanation,
            retryable=over.retryable,
            stage=over.stage,  # type: ignore[arg-type]
            retry_time=None if over.retry_us is None else moment(over.retry_us),
        )
        return failed.SerializeToString() + present(
            (chat_pb2.TurnFailed.PARTIAL_FIELD_NUMBER, partial),
            (chat_pb2.TurnFailed.USAGE_FIELD_NUMBER, over.usage),
        )

    def turn_cancelled(self, partial: bytes, usage: bytes, device_id: str) -> bytes:
        """A serialised TurnCancelled."""
        return chat_pb2.TurnCancelled(device_id=device_id).SerializeToString() + present(
            (chat_pb2.TurnCancelled.PARTIAL_FIELD_NUMBER, partial),
            (chat_pb2.TurnCancelled.USAGE_FIELD_NUMBER, usage),
        )


def _body(message: chat_pb2.NewMessage) -> bytes:
    body = message_pb2.Message(
        parts=message.parts, client_metadata=message.client_metadata, placement=message.placement
    )
    for part in body.parts:
        part.trust = message_pb2.TRUST_PERSON
        part.provider_state = b""
    return body.SerializeToString(deterministic=True)


def _hash(message: chat_pb2.NewMessage) -> bytes:
    """SHA-256 over session, parent and parts, in their deterministic encoding."""
    same = chat_pb2.NewMessage(
        session_id=message.session_id, parent_id=message.parent_id, parts=message.parts
    )
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()


def _client_id(request: chat_pb2.ChatRequest) -> str:
    match request.WhichOneof("frame"):
        case "message":
            return request.message.client_message_id
        case "cancel":
            return request.cancel.request_id
        case "respond":
            return request.respond.request_id
        case _:
            return ""


def _reason(name: str) -> error_pb2.ErrorReason.ValueType:
    try:
        return error_pb2.ErrorReason.Value(f"ERROR_REASON_{name}")
    except ValueError:
        return error_pb2.ERROR_REASON_INTERNAL


def _positions(cursors: Sequence[Cursor]) -> list[session_pb2.SessionCursor]:
    return [
        session_pb2.SessionCursor(
            session_id=each.session_id, log_epoch=each.log_epoch, sequence=each.sequence
        )
        for each in cursors
    ]
