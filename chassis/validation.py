"""The contract's own rules (protovalidate), applied to a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import protovalidate
from google.protobuf.message import Message

from chassis.errors import Violation

if TYPE_CHECKING:
    from protovalidate import FieldPathPb

_validator = protovalidate.Validator()


def violations(message: object) -> tuple[Violation, ...]:
    """Every rule the message breaks; empty when it is valid, or is no protobuf message."""
    if not isinstance(message, Message):
        return ()
    return tuple(_violation(found) for found in _validator.collect_violations(message))


def _violation(found: protovalidate.Violation) -> Violation:
    proto = found.proto
    return Violation(
        field="" if proto.field is None else _path(proto.field),
        description=proto.message or "",
        rule=proto.rule_id or "",
    )


def _path(field: FieldPathPb) -> str:
    parts = []
    for element in field.elements:
        subscript = "" if element.subscript is None else f"[{element.subscript.value}]"
        parts.append(f"{element.field_name}{subscript}")
    return ".".join(parts)
