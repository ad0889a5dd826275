"""The records of an account's archive: rows as lines of ProtoJSON, and back. Pure."""

from __future__ import annotations

import json

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2
from assistant.media.v1 import media_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from context_svc.accounts import Account
from context_svc.api_tokens import ApiToken
from context_svc.device_list import Listed as ListedDevice
from context_svc.items import Item
from context_svc.session_rows import Session
from context_svc.sessions import Listed
from context_svc.wire import identity
from context_svc.wire import session as sessions
from context_svc.wire.items import item


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
        return _line(chat_pb2.ChatEvent.FromString(stored))

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
