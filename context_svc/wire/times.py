"""Microseconds since 1970 as the contract's timestamps, and lengths of time as its durations."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(us: int) -> Timestamp:
    """A moment."""
    seconds, rest = divmod(us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def timestamp_or_none(us: int | None) -> Timestamp | None:
    """A moment, or nothing."""
    return None if us is None else timestamp(us)


def duration(length: timedelta) -> Duration:
    """A length of time."""
    whole = Duration()
    whole.FromTimedelta(length)
    return whole


def duration_of(seconds: float) -> Duration:
    """Seconds, to the microsecond."""
    return duration(timedelta(seconds=max(0.0, seconds)))
