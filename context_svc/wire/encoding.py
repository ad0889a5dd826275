"""Pieces of the protobuf encoding: messages are put together from parts that are serialised already."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp


def moment(time_us: int) -> Timestamp:
    """Microseconds since 1970."""
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1_000)


def present(*fields: tuple[int, bytes]) -> bytes:
    """The fields that are not empty."""
    return b"".join(field(number, data) for number, data in fields if data)


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field: its tag, its length, its bytes."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
