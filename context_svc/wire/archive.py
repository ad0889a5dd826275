"""The records of an account's archive: rows as lines of ProtoJSON, and back. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import IntEnum
from typing import TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2
from assistant.error.v1 import error_pb2
from assistant.identity.v1 import identity_pb2
from assistant.media.v1 import media_pb2
from assistant.message.v1 import message_pb2
from assistant.reminder.v1 import reminder_pb2
from assistant.session.v1 import session_pb2
from chassis.validation import violations
from context_svc.accounts import Account
from context_svc.api_tokens import ApiToken
from context_svc.arrivals import Names
from context_svc.device_list import Listed as ListedDevice
from context_svc.devices import Platform
from context_svc.errors import ArchiveInvalid
from context_svc.items import MOST_VALUE_BYTES, Item, Placement, Source
from context_svc.reminder_rows import Reminder, ReminderState
from context_svc.session_rows import Session, SessionState, TitleSource
from context_svc.sessions import Listed
from context_svc.suggestions import Evidence, Suggestion, SuggestionState
from context_svc.unpacking import (
    ArrivingDevice,
    ArrivingEvent,
    ArrivingFile,
    ArrivingMessage,
    ArrivingTurn,
    Layer,
    Opening,
)
from context_svc.wire import identity, reminders
from context_svc.wire import session as sessions
from context_svc.wire.items import item, stored_value
from context_svc.wire.suggestions import suggestion


class ArchiveLines:
    """Writes what is stored as records of the archive."""

    def account(self, value: Account) -> str:
        """identity.v1.Account."""
        return _line(identity.account(value))

    def device(self, value: ListedDevice) -> str:
        """identity.v1.Device, without what is true only now."""
        device = identity.listed_device(value)
        device.ClearField("current")
        device.ClearField("signed_in")
        return _line(device)

    def api_token(self, value: ApiToken) -> str:
        """identity.v1.ApiToken."""
        return _line(identity.api_token(value))

    def preferences(self, stored: bytes) -> str:
        """context.v1.Preferences."""
        return _line(context_pb2.Preferences.FromString(stored))

    def suggestion(self, value: Suggestion) -> str:
        """context.v1.Suggestion."""
        return _line(suggestion(value))

    def reminder(self, value: Reminder) -> str:
        """reminder.v1.Reminder."""
        return _line(reminders.reminder(value))

    def session(self, value: Session) -> str:
        """session.v1.Session. `log_epoch` is this mesh's own and left out."""
        return _line(sessions.session(Listed(session=value, open_turns=()), ""))

    def item(self, value: Item) -> str:
        """context.v1.ContextItem."""
        return _line(item(value))

    def message(self, stored: bytes) -> str:
        """message.v1.Message."""
        return _line(message_pb2.Message.FromString(stored))

    def event(self, stored: bytes) -> str:
        """chat.v1.ChatEvent."""
        event = chat_pb2.ChatEvent.FromString(stored)
        for each in _within(event):
            if isinstance(each, session_pb2.Session | session_pb2.SessionCursor):
                each.ClearField("log_epoch")
        return _line(event)

    def turn(self, turn_id: str, state: int, receipt: bytes) -> str:
        """chat.v1.TurnReceipt."""
        try:
            whole = chat_pb2.TurnReceipt.FromString(receipt)
        except DecodeError:  # kept in another form
            whole = chat_pb2.TurnReceipt()
        whole.turn_id, whole.state = turn_id, session_pb2.TurnState.ValueType(state)
        return _line(whole)

    def media(self, value: bytes) -> str:
        """media.v1.Media, from its serialised form."""
        return _line(media_pb2.Media.FromString(value))


def _line(message: Message) -> str:
    return json.dumps(MessageToDict(message), separators=(",", ":"), sort_keys=True, ensure_ascii=False)


class ArchiveRecords:
    """Reads records of an archive that somebody sent: `context_svc.unpacking.RecordCodec`."""

    def read_device(self, line: bytes) -> ArrivingDevice:
        """identity.v1.Device. What it consented to elsewhere is not taken over."""
        device = _ruled(line, identity_pb2.Device())
        return ArrivingDevice(
            id=_id(device.id),
            name=_text(device.name),
            platform=_known(Platform, device.platform),
            app_version=_text(device.app_version)[:64],
            create_us=device.create_time.ToMicroseconds(),
            last_use_us=device.last_use_time.ToMicroseconds(),
        )

    def read_layer(self, line: bytes) -> Layer:
        """context.v1.Preferences."""
        stored = _ruled(line, context_pb2.Preferences())
        kept: int | None = None
        if stored.HasField("location_retention"):
            kept = stored.location_retention.keep.ToMicroseconds()
        return Layer(data=stored.SerializeToString(deterministic=True), location_keep_us=kept)

    def read_reminder(self, line: bytes) -> Reminder:
        """reminder.v1.Reminder."""
        told = _ruled(line, reminder_pb2.Reminder())
        return Reminder(
            id=_id(told.id),
            account_id="",
            session_id="",
            turn_id="",
            text=_text(told.text),
            due_us=told.due_time.ToMicroseconds(),
            time_zone=_text(told.time_zone),
            create_us=told.create_time.ToMicroseconds(),
            state=ReminderState(_known(ReminderState, told.state)),
        )

    def read_suggestion(self, line: bytes) -> Suggestion:
        """context.v1.Suggestion."""
        told = _ruled(line, context_pb2.Suggestion())
        value = _proposal(told)
        return Suggestion(
            id=_id(told.id),
            field=_text(told.field_path),
            value=_text(value),
            evidence=tuple(
                Evidence(
                    session_id=_text(each.session_id),
                    turn_id=_text(each.turn_id),
                    choose_us=each.choose_time.ToMicroseconds(),
                )
                for each in told.evidence
            ),
            state=SuggestionState(_known(SuggestionState, told.state)),
            create_us=told.create_time.ToMicroseconds(),
            resolve_us=told.resolve_time.ToMicroseconds() if told.HasField("resolve_time") else None,
        )

    def read_session(self, line: bytes) -> Session:
        """session.v1.Session. The end of its branch is that of its messages."""
        told = _ruled(line, session_pb2.Session())
        if told.sealed:
            raise ArchiveInvalid("sealed sessions are not taken yet")
        return Session(
            id=_id(told.id).lower(),
            account_id="",
            title=_text(told.title),
            title_source=TitleSource(_known(TitleSource, told.title_source)),
            state=SessionState(_known(SessionState, told.state)),
            settings=told.settings.SerializeToString(deterministic=True),
            version=_count(told.version),
            last_sequence=_count(told.last_sequence),
            head_message_id=None,
            preview=_text(told.preview),
            create_us=told.create_time.ToMicroseconds(),
            update_us=told.update_time.ToMicroseconds(),
            end_us=told.end_time.ToMicroseconds() if told.HasField("end_time") else None,
            device_id=_text(told.device_id),
            sealed=False,
            private=told.settings.private,
        )

    def read_item(self, line: bytes) -> Item:
        """context.v1.ContextItem."""
        told = _ruled(line, context_pb2.ContextItem())
        value = _value(told)
        if not _KEY.fullmatch(told.key) or len(value.encode()) > MOST_VALUE_BYTES:
            raise ArchiveInvalid("a context item that could not have been stored")
        return Item(
            key=told.key,
            value=value,
            source=Source(_known(Source, told.source)),
            version=_count(told.version),
            placement=Placement(_known(Placement, told.placement)),
            expire_us=told.expire_time.ToMicroseconds() if told.HasField("expire_time") else None,
            measure_us=None,
            create_us=told.create_time.ToMicroseconds(),
            update_us=told.update_time.ToMicroseconds(),
            turn_id=_text(told.turn_id),
            device_id=_text(told.device_id),
            action=_text(told.action),
            session_id=told.session_id.lower(),
        )

    def read_message(self, line: bytes) -> ArrivingMessage:
        """message.v1.Message."""
        told = _parsed(line, message_pb2.Message())
        if told.role not in (message_pb2.ROLE_USER, message_pb2.ROLE_ASSISTANT):
            raise ArchiveInvalid("a message of nobody")
        return ArrivingMessage(
            session_id=told.session_id.lower(),
            id=_id(told.id),
            turn_id=_text(told.turn_id),
            parent_id=_text(told.parent_id),
            role=int(told.role),
            sequence=_count(told.sequence),
            create_us=told.create_time.ToMicroseconds(),
            data=told.SerializeToString(deterministic=True),
            media=tuple(dict.fromkeys(each.media_id for each in _references(told) if each.media_id)),
        )

    def read_event(self, line: bytes) -> ArrivingEvent:
        """chat.v1.ChatEvent."""
        told = _parsed(line, chat_pb2.ChatEvent())
        name = told.WhichOneof("event")
        if name is None:
            raise ArchiveInvalid("an event of a kind not known here")
        opens = None
        if name == "turn_accepted":
            accepted = told.turn_accepted
            opens = Opening(
                message_id=_text(accepted.message.id),
                options=accepted.options.SerializeToString(deterministic=True),
                action=_action(accepted),
                alternative=bool(accepted.regenerated_turn_id),
            )
        return ArrivingEvent(
            session_id=told.session_id.lower(),
            sequence=_count(told.sequence),
            turn_id=_text(told.turn_id),
            kind=chat_pb2.ChatEvent.DESCRIPTOR.fields_by_name[name].number,
            create_us=told.create_time.ToMicroseconds(),
            data=told.SerializeToString(deterministic=True),
            opens=opens,
            answer_id=_text(told.turn_started.answer_id) if name == "turn_started" else "",
            reason=_reason(told.turn_failed.reason) if name == "turn_failed" else "",
        )

    def read_turn(self, line: bytes) -> ArrivingTurn:
        """chat.v1.TurnReceipt."""
        told = _parsed(line, chat_pb2.TurnReceipt())
        turn_id, state = _id(told.turn_id), int(told.state)
        told.ClearField("turn_id")
        told.ClearField("state")
        return ArrivingTurn(id=turn_id, state=state, receipt=told.SerializeToString(deterministic=True))

    def read_file(self, line: bytes) -> ArrivingFile:
        """media.v1.Media."""
        told = _parsed(line, media_pb2.Media())
        if not _DIGEST.fullmatch(told.sha256) or told.size <= 0:
            raise ArchiveInvalid("a file without digest or size")
        return ArrivingFile(
            id=_id(told.id),
            sha256=told.sha256,
            size=told.size,
            data=told.SerializeToString(deterministic=True),
        )

    def failed_event(self, session_id: str, turn_id: str, sequence: int, time_us: int) -> bytes:
        """The end of a turn that was open when the archive was made: a serialised ChatEvent."""
        event = chat_pb2.ChatEvent(
            session_id=session_id,
            sequence=sequence,
            turn_id=turn_id,
            turn_failed=chat_pb2.TurnFailed(
                reason=error_pb2.ERROR_REASON_OWNER_LOST,
                message="It was not finished when the account moved.",
                retryable=True,
            ),
        )
        event.create_time.FromMicroseconds(time_us)
        return event.SerializeToString()

    def renamed_message(self, data: bytes, names: Names) -> bytes:
        """The message with other ids in it."""
        return _renamed(message_pb2.Message.FromString(data), names)

    def renamed_event(self, data: bytes, names: Names) -> bytes:
        """The event with other ids in it."""
        return _renamed(chat_pb2.ChatEvent.FromString(data), names)


_KEY = re.compile(r"[a-z0-9_.-]{1,128}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9A-Za-z._:-]{1,64}")
_MOST = 2**53
_PROPOSABLE = frozenset({"model", "language", "tone"})
_M = TypeVar("_M", bound=Message)


def _parsed(line: bytes, into: _M) -> _M:
    try:
        return ParseDict(json.loads(line), into, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ArchiveInvalid(f"no {type(into).__name__}") from error


def _ruled(line: bytes, into: _M) -> _M:
    """The record, which keeps the contract's rules too."""
    parsed = _parsed(line, into)
    if found := violations(parsed):
        raise ArchiveInvalid(f"{type(into).__name__} breaks {found[0].rule} at {found[0].field}")
    return parsed


def _value(told: context_pb2.ContextItem) -> str:
    try:
        return stored_value(told.value)
    except ValueError as error:
        raise ArchiveInvalid("a value that could not have been stored") from error


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ArchiveInvalid("an id that is none")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise ArchiveInvalid("text with NUL")
    return value


def _count(value: int) -> int:
    if not 0 <= value <= _MOST:
        raise ArchiveInvalid("a number out of bounds")
    return value


def _proposal(told: context_pb2.Suggestion) -> str:
    """The proposed value as it is stored: of a field that holds text, or of the units."""
    if told.field_path == "units":
        return context_pb2.UnitSystem.Name(told.proposed.units)
    value = getattr(told.proposed, told.field_path, None) if told.field_path in _PROPOSABLE else None
    if not isinstance(value, str) or not value:
        raise ArchiveInvalid("a suggestion of nothing")
    return value


def _action(accepted: chat_pb2.TurnAccepted) -> bytes | None:
    return accepted.action.SerializeToString(deterministic=True) if accepted.HasField("action") else None


def _known(kind: type[IntEnum], value: int) -> int:
    try:
        return int(kind(value))
    except ValueError as error:
        raise ArchiveInvalid(f"no {kind.__name__}") from error


def _reason(value: error_pb2.ErrorReason.ValueType) -> str:
    try:
        return error_pb2.ErrorReason.Name(value).removeprefix("ERROR_REASON_")
    except ValueError:
        return "INTERNAL"


def _references(message: Message) -> Iterator[message_pb2.MediaReference]:
    for each in _within(message):
        if isinstance(each, message_pb2.MediaReference):
            yield each


def _within(message: Message) -> Iterator[Message]:
    """A message and every message in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            values = list(value.values()) if field.message_type.fields_by_name["value"].message_type else []
        else:
            values = list(value) if field.is_repeated else [value]
        for each in values:
            yield from _within(each)


def _renamed(message: Message, names: Names) -> bytes:
    for each in _within(message):
        if isinstance(each, message_pb2.MediaReference):
            each.media_id = names.media.get(each.media_id, each.media_id)
        if isinstance(each, session_pb2.Session | session_pb2.SessionCursor):
            each.log_epoch = names.log_epoch
        if names.session_id:
            _rename_ids(each, names)
    return message.SerializeToString(deterministic=True)


def _rename_ids(message: Message, names: Names) -> None:
    for field, value in message.ListFields():
        if field.name == "session_id" or (isinstance(message, session_pb2.Session) and field.name == "id"):
            setattr(message, field.name, names.session_id)
        elif field.name in ("turn_id", "regenerated_turn_id"):
            setattr(message, field.name, names.turn(value))
