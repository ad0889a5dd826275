"""Requests made at random from the contract's descriptors: right, wrong and hostile ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chassis import ids

_DEEPEST = 4
_TEXTS = (
    "",
    " ",
    "x",
    "say hello",
    "0",
    "-1",
    "null",
    "{}",
    '{"a": 1}',
    "[" * 5_000,
    "{" * 200 + "}" * 200,
    "\0",
    "a\0b",
    "\n\r\t\x1b[2J",
    "\u202e\u200b\ufeff",
    "🦓" * 40,
    "é" * 300,
    "../../../etc/passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/",
    "' OR '1'='1",
    "); DROP TABLE message; --",
    '"MATCH" NEAR(* AND',
    "%s%n%x",
    "${HOME}",
    "Europe/Paris",
    "Mars/Olympus",
    "de-CH",
    "anna@example.org",
    "a@" + "b" * 300,
    "text/plain",
    "9" * 400,
    "1e999",
    "x" * 20_000,
    "memory.1",
    "=" * 64,
    "0" * 64,
)
_NUMBERS = (0, 1, 2, 3, 10, 50, 255, 1_000, 1_001, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)
_REALS = (0.0, 1.0, -1.0, 0.5, 2.0, 91.0, 181.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"))
_BITS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


class Generator:
    """Makes requests; the same ones for the same seed and the same things to name."""

    def __init__(self, seed: int, named: Mapping[str, Any]) -> None:
        self._random = random.Random(seed)
        self._named = named

    def request(self, kind: type[Message], good: Mapping[str, Any]) -> Message:
        """A message of this kind: anything at all, or one that would be `good` with a field or two changed."""
        if self._random.random() < 0.4:
            return self._any(kind, 0)
        message = kind(
            **{name: value for name, value in good.items() if name in kind.DESCRIPTOR.fields_by_name}
        )
        for _ in range(self._random.choice((0, 1, 1, 2, 3))):
            self._change(message)
        return message

    def choice(self, among: Sequence[Any]) -> Any:
        """One of them."""
        return self._random.choice(among)

    def garbage(self, data: bytes) -> bytes:
        """The bytes with some of them changed, cut off or added."""
        broken = bytearray(data)
        for _ in range(self._random.randrange(1, 4)):
            match self._random.randrange(3):
                case 0 if broken:
                    broken[self._random.randrange(len(broken))] = self._random.randrange(256)
                case 1 if broken:
                    del broken[self._random.randrange(len(broken)) :]
                case _:
                    broken += self._random.randbytes(self._random.randrange(1, 9))
        return bytes(broken)

    def _any(self, kind: type[Message], depth: int) -> Message:
        message = kind()
        for field in _fields(message):
            if self._random.random() < (0.5 if depth < 2 else 0.3):
                self._fill(message, field, depth)
        return message

    def _change(self, message: Message) -> None:
        """Set one field anew, here or in a message below."""
        below = [value for field, value in message.ListFields() if isinstance(value, Message)]
        if below and self._random.random() < 0.5:
            self._change(self._random.choice(below))
        elif fields := _fields(message):
            field = self._random.choice(fields)
            message.ClearField(field.name)
            if self._random.random() < 0.85:
                self._fill(message, field, 1)

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            entries = getattr(message, field.name)
            for _ in range(self._random.randrange(3)):
                if value.message_type is None:
                    entries[self._scalar(key)] = self._scalar(value)
                elif depth < _DEEPEST:
                    entries[self._scalar(key)].CopyFrom(
                        self._any(GetMessageClass(value.message_type), depth + 1)
                    )
        elif field.is_repeated:
            for _ in range(self._random.choice((1, 1, 2, 3, 40))):
                if field.message_type is None:
                    getattr(message, field.name).append(self._scalar(field))
                elif depth < _DEEPEST:
                    getattr(message, field.name).append(
                        self._any(GetMessageClass(field.message_type), depth + 1)
                    )
        elif field.message_type is None:
            setattr(message, field.name, self._scalar(field))
        elif depth < _DEEPEST:
            getattr(message, field.name).CopyFrom(self._any(GetMessageClass(field.message_type), depth + 1))

    def _scalar(self, field: FieldDescriptor) -> Any:
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return self._text(field.name)
            case FieldDescriptor.TYPE_BYTES:
                return self._random.randbytes(self._random.choice((0, 1, 16, 32, 5_000)))
            case FieldDescriptor.TYPE_BOOL:
                return self._random.random() < 0.5
            case FieldDescriptor.TYPE_ENUM:
                return self._random.choice([*_values(field), 99, -1])
            case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
                return self._random.choice(_REALS)
            case kind:
                low, high = _BITS[kind]
                number = self._random.choice(_NUMBERS) * self._random.choice((1, 1, 1, -1))
                return min(high, max(low, number))

    def _text(self, name: str) -> str:
        if self._random.random() < 0.5:
            if isinstance(known := self._named.get(name), str):
                return known
            if name.endswith("_id") or name == "id":
                return ids.uuid()
        return self._random.choice(_TEXTS)


def _fields(message: Message) -> list[FieldDescriptor]:
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    return fields


def _values(field: FieldDescriptor) -> list[int]:
    assert field.enum_type is not None
    return [value.number for value in field.enum_type.values]
