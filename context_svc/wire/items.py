"""Context items on the wire. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from typing import TypeAlias, assert_never

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import NULL_VALUE, Value
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.context.v1 import context_pb2 as pb
from assistant.message.v1 import message_pb2
from chassis.errors import InvalidRequest, Violation
from context_svc.consents import Kind
from context_svc.context_feed import Beat, Closed, Frame, Place, Whole
from context_svc.context_items import Changed, Deletion, Measurement, Read, Update
from context_svc.errors import ContextSourceForbidden
from context_svc.item_rows import Selection
from context_svc.items import (
    DEEPEST,
    DEVICE_PREFIX,
    MEMORY_PREFIX,
    MOST_VALUE_BYTES,
    Author,
    Item,
    ItemWrite,
    Placement,
    Scope,
    Source,
    Tombstone,
)
from context_svc.repeats import Command
from context_svc.wire.times import timestamp, timestamp_or_none

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
_EXACT = 2**53
_NO_KEY = ""


def scope(session_id: str, account_id: str) -> Scope:
    """Whose items are meant."""
    return Scope(account_id=account_id, session_id=session_id)


def selection(request: pb.GetContextRequest) -> Selection:
    """Which items are asked for: both filters hold."""
    if not request.keys:
        return Selection(prefix=request.key_prefix)
    keys = tuple(key for key in request.keys if key.startswith(request.key_prefix))
    return Selection(keys=keys or (_NO_KEY,))


def update(request: pb.UpdateContextRequest, account_id: str) -> Update:
    """A checked write. Raises InvalidRequest and ContextSourceForbidden."""
    if found := list(_violations(request)):
        raise InvalidRequest(violations=found)
    device = request.device if request.HasField("device") else pb.DeviceContext()
    return Update(
        command=command(request, account_id),
        scope=scope(request.session_id, account_id),
        writes=tuple(map(_write, request.items)),
        measurements=tuple(_measurements(device)),
        expected_version=request.expected_version if request.HasField("expected_version") else None,
    )


def deletion(request: pb.DeleteContextItemsRequest, account_id: str) -> Deletion:
    """What is to be deleted."""
    return Deletion(
        command=command(request, account_id),
        scope=scope(request.session_id, account_id),
        selection=Selection(keys=tuple(dict.fromkeys(request.keys)), prefix=request.key_prefix),
        expected_version=request.expected_version if request.HasField("expected_version") else None,
    )


def command(
    request: pb.UpdateContextRequest
    | pb.DeleteContextItemsRequest
    | pb.UpdatePreferencesRequest
    | pb.ResolveSuggestionRequest,
    account_id: str,
) -> Command:
    """The id and the digest of a request."""
    whole = type(request).__name__.encode() + request.SerializeToString(deterministic=True)
    return Command(
        account_id=account_id, request_id=request.request_id, body_hash=hashlib.sha256(whole).hexdigest()
    )


def read(value: Read, log_epoch: str) -> pb.GetContextResponse:
    """Items as they are."""
    return pb.GetContextResponse(
        items=map(item, value.items),
        user_cursor=_cursor_or_none(log_epoch, value.user_version),
        session_cursor=_cursor_or_none(log_epoch, value.session_version),
    )


def cursor(log_epoch: str, version: int) -> pb.ContextCursor:
    """A place in the history of a scope."""
    return pb.ContextCursor(log_epoch=log_epoch, version=version)


def item(stored: Item) -> pb.ContextItem:
    """An item as every device sees it."""
    whole = pb.ContextItem(
        key=stored.key,
        scope=pb.CONTEXT_SCOPE_SESSION if stored.session_id else pb.CONTEXT_SCOPE_USER,
        session_id=stored.session_id,
        source=pb.ContextSource.ValueType(int(stored.source)),
        version=stored.version,
        placement=message_pb2.Placement.ValueType(int(stored.placement)),
        expire_time=timestamp_or_none(stored.expire_us),
        create_time=timestamp(stored.create_us),
        update_time=timestamp(stored.update_us),
        turn_id=stored.turn_id,
        device_id=stored.device_id,
        action=stored.action,
    )
    _fill(whole.value, json.loads(stored.value))
    return whole


def tombstone(gone: Tombstone) -> pb.ContextTombstone:
    """A key that went."""
    return pb.ContextTombstone(
        key=gone.key, version=gone.version, expired=gone.expired, delete_time=timestamp(gone.delete_us)
    )


def place(request: pb.WatchContextRequest) -> Place | None:
    """Where a watch begins; None: with everything."""
    if not request.HasField("after"):
        return None
    return Place(log_epoch=request.after.log_epoch, version=request.after.version)


def frame(sent: Frame, log_epoch: str) -> pb.WatchContextResponse:
    """One frame of a watch."""
    whole = pb.WatchContextResponse(cursor=cursor(log_epoch, sent.version))
    match sent:
        case Whole(items=items):
            whole.snapshot.CopyFrom(pb.ContextSnapshot(items=map(item, items)))
        case Changed(items=items, tombstones=tombstones):
            change = pb.ContextChange(items=map(item, items), tombstones=map(tombstone, tombstones))
            whole.change.CopyFrom(change)
        case Beat():
            whole.heartbeat.SetInParent()
        case Closed(reason=reason):
            whole.closed.reason = pb.ContextWatchClosedReason.ValueType(int(reason))
        case _:
            assert_never(sent)
    return whole


class ItemAnswers:
    """Writes the answers of commands."""

    def __init__(self, log_epoch: str) -> None:
        self._log_epoch = log_epoch

    def updated(self, changed: Changed) -> bytes:
        """A serialised UpdateContextResponse."""
        return pb.UpdateContextResponse(
            items=map(item, changed.items), cursor=cursor(self._log_epoch, changed.version)
        ).SerializeToString()

    def deleted(self, changed: Changed) -> bytes:
        """A serialised DeleteContextItemsResponse."""
        return pb.DeleteContextItemsResponse(
            deleted=map(tombstone, changed.tombstones), cursor=cursor(self._log_epoch, changed.version)
        ).SerializeToString()


def stored_value(value: Value) -> str:
    """A value as it is stored. Raises ValueError when it cannot be."""
    return _compact(_plain(value, DEEPEST))


def _violations(request: pb.UpdateContextRequest) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, write in enumerate(request.items):
        path = f"items[{index}]"
        if write.key in seen:
            yield Violation(field=f"{path}.key", description="is named twice", rule="context.key.twice")
        seen.add(write.key)
        if write.key.startswith(DEVICE_PREFIX):
            yield Violation(
                field=f"{path}.key", description="comes from DeviceContext only", rule="context.key.device"
            )
        if fault := _fault(write):
            yield Violation(field=f"{path}.value", description=fault, rule="context.value")


def _fault(write: pb.ContextItemWrite) -> str:
    try:
        plain = _plain(write.value, DEEPEST)
    except ValueError as error:
        return str(error)
    if len(_compact(plain).encode()) > MOST_VALUE_BYTES:
        return f"must not exceed {MOST_VALUE_BYTES} bytes"
    if write.key.startswith(MEMORY_PREFIX) and not (
        isinstance(plain, dict) and isinstance(plain.get("text"), str)
    ):
        return "a memory is an object with the field `text`"
    return ""


def _write(write: pb.ContextItemWrite) -> ItemWrite:
    source = Source(write.source or Source.USER)
    memory = write.key.startswith(MEMORY_PREFIX)
    if source in (Source.TOOL, Source.MODEL) or (memory and source is not Source.USER):
        raise ContextSourceForbidden
    return ItemWrite(
        key=write.key,
        value=_compact(_plain(write.value, DEEPEST)),
        author=Author(source=source),
        ttl_us=write.ttl.ToMicroseconds() if write.HasField("ttl") else None,
        placement=Placement(write.placement) if write.placement else None,
        expected_version=write.expected_version if write.HasField("expected_version") else None,
    )


def _measurements(device: pb.DeviceContext) -> Iterator[Measurement]:
    measured = device.measure_time.ToMicroseconds() if device.HasField("measure_time") else None
    if device.HasField("location"):
        own = device.location.HasField("measure_time")
        yield _measurement(
            Kind.LOCATION, device.location, device.location.measure_time.ToMicroseconds() if own else measured
        )
    if device.HasField("locale"):
        yield _measurement(Kind.LOCALE, pb.DeviceContext(locale=device.locale), measured)
    if device.HasField("time_zone"):
        yield _measurement(Kind.TIME_ZONE, pb.DeviceContext(time_zone=device.time_zone), measured)
    if device.HasField("battery"):
        yield _measurement(Kind.BATTERY, device.battery, measured)
    if device.HasField("network"):
        yield _measurement(Kind.NETWORK, device.network, measured)


def _measurement(kind: Kind, part: Message, measure_us: int | None) -> Measurement:
    plain = MessageToDict(part)

    def value(stamp_us: int) -> str:
        stamp = Timestamp()
        stamp.FromMicroseconds(stamp_us)
        return _compact({**plain, "measureTime": stamp.ToJsonString()})

    return Measurement(kind=kind, value=value, measure_us=measure_us)


def _plain(value: Value, levels: int) -> Json:
    """The JSON of a value. Raises ValueError for what has no JSON, or too many levels."""
    match value.WhichOneof("kind"):
        case "null_value":
            return None
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            _descend(levels)
            return {key: _plain(each, levels - 1) for key, each in value.struct_value.fields.items()}
        case "list_value":
            _descend(levels)
            return _list(value.list_value.values, levels - 1)
        case _:
            raise ValueError("must hold a JSON value")


def _list(values: Iterable[Value], levels: int) -> list[Json]:
    return [_plain(each, levels) for each in values]


def _descend(levels: int) -> None:
    if levels == 0:
        raise ValueError(f"must not be deeper than {DEEPEST} levels")


def _number(number: float) -> int | float:
    if not math.isfinite(number):
        raise ValueError("must hold finite numbers")
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _fill(value: Value, plain: Json) -> None:
    """Make the value say this. By hand: it is most of what reading a context costs."""
    match plain:
        case None:
            value.null_value = NULL_VALUE
        case bool():
            value.bool_value = plain
        case str():
            value.string_value = plain
        case int() | float():
            value.number_value = plain
        case dict():
            value.struct_value.SetInParent()
            fields = value.struct_value.fields
            for key, each in plain.items():
                _fill(fields[key], each)
        case _:
            value.list_value.SetInParent()
            for each in plain:
                _fill(value.list_value.values.add(), each)


def _compact(plain: Json) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _cursor_or_none(log_epoch: str, version: int | None) -> pb.ContextCursor | None:
    return None if version is None else cursor(log_epoch, version)
