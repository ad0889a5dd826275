"""The contract's own rules (protovalidate), and those of its times and durations, applied to a message."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import protovalidate
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import Violation

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from protovalidate import FieldPathPb

_validator = protovalidate.Validator()
_TIMES = (Timestamp.DESCRIPTOR.full_name, Duration.DESCRIPTOR.full_name)


def violations(message: object) -> tuple[Violation, ...]:
    """Every rule the message breaks; empty when it is valid, or is no protobuf message."""
    if not isinstance(message, Message):
        return ()
    found = tuple(_violation(found) for found in _validator.collect_violations(message))
    return found or tuple(_impossible(message, ""))


def _violation(found: protovalidate.Violation) -> Violation:
    proto = found.proto
    return Violation(
        field="" if proto.field is None else _path(proto.field),
        description=proto.message or "",
        rule=proto.rule_id or "",
    )


def _impossible(message: Message, above: str) -> Iterator[Violation]:
    """The times and durations that are none: their own files say which are, and no rule of protovalidate does."""
    for name, repeated in _holders(message.DESCRIPTOR):
        path = f"{above}{name}"
        if repeated:
            for index, each in enumerate(getattr(message, name)):
                yield from _impossible_one(each, f"{path}[{index}]")
        elif message.HasField(name):
            yield from _impossible_one(getattr(message, name), path)


def _impossible_one(message: Message, path: str) -> Iterator[Violation]:
    try:
        match message:
            case Timestamp() | Duration():
                message.ToJsonString()  # it checks
            case _:
                yield from _impossible(message, f"{path}.")
    except ValueError:
        kind = message.DESCRIPTOR.name.lower()
        yield Violation(field=path, description=f"must be a possible {kind}", rule=f"{kind}.possible")


@cache
def _holders(kind: Descriptor) -> tuple[tuple[str, bool], ...]:
    """The fields in which a message can have times or durations, at any depth; whether there are many."""
    return tuple(
        (field.name, field.is_repeated)
        for field in kind.fields
        if field.message_type is not None
        and not field.message_type.GetOptions().map_entry
        and _holds(field.message_type, frozenset())
    )


def _holds(kind: Descriptor, above: frozenset[str]) -> bool:
    if kind.full_name in _TIMES:
        return True
    below = {field.message_type for field in kind.fields if field.message_type is not None}
    return kind.full_name not in above and any(_holds(each, above | {kind.full_name}) for each in below)


def _path(field: FieldPathPb) -> str:
    parts = []
    for element in field.elements:
        subscript = "" if element.subscript is None else f"[{element.subscript.value}]"
        parts.append(f"{element.field_name}{subscript}")
    return ".".join(parts)
