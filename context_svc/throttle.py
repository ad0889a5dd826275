"""Throttles: so many attempts in a sliding window, kept in the database, so that a restart forgives nothing.

An attempt is reserved before its work is done and given back when it turns out good. Counting afterwards
would let a burst of parallel guesses through.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.database import Statement, Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """At most `limit` attempts of one subject in `window`. The subject is a hash, never what it was made of."""

    subject: str
    limit: int
    window: timedelta

    @property
    def window_us(self) -> int:
        """The window in microseconds."""
        return round(self.window.total_seconds() * 1e6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Attempts that were counted at `at_us`; `reached` tells that one of the bounds is full by them."""

    bounds: tuple[Bound, ...]
    at_us: int
    reached: bool


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A bound is full; there is room again after `retry_after`."""

    retry_after: timedelta


class Subjects:
    """Names what attempts are counted for, so that the table tells nobody which addresses were tried."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def name(self, *parts: str) -> str:
        """The subject of these parts."""
        return hmac.digest(self._key, json.dumps(parts).encode(), hashlib.sha256).hex()


def reserve(bounds: Sequence[Bound], now_us: int) -> Unit[Reservation | Exhausted]:
    """Part of a unit: count an attempt with every bound, or with none when one of them is full."""
    ordered = sorted(bounds, key=lambda each: each.subject)
    counted: list[list[int]] = []
    for bound in ordered:
        counted.append((yield from _recent(bound, now_us)))
    waits = [
        moments[-bound.limit] + bound.window_us - now_us
        for bound, moments in zip(ordered, counted, strict=True)
        if len(moments) >= bound.limit
    ]
    if waits:
        return Exhausted(timedelta(microseconds=max(1, *waits)))
    for bound, moments in zip(ordered, counted, strict=True):
        yield _store(bound.subject, [*moments, now_us])
    yield Statement("DELETE FROM throttle WHERE expire_us <= :now_us", {"now_us": now_us})
    reached = any(len(moments) + 1 >= bound.limit for bound, moments in zip(ordered, counted, strict=True))
    return Reservation(bounds=tuple(ordered), at_us=now_us, reached=reached)


def give_back(reservation: Reservation) -> Unit[None]:
    """Part of a unit: the attempt was good, or never made; it counts no longer."""
    for bound in reservation.bounds:
        moments = yield from _recent(bound, reservation.at_us)
        if reservation.at_us in moments:
            moments.remove(reservation.at_us)
        yield _store(bound.subject, moments)


def _recent(bound: Bound, now_us: int) -> Unit[list[int]]:
    """The attempts within the window; the row is held until the commit."""
    rows = yield Statement(
        "INSERT INTO throttle (subject, moments, expire_us) VALUES (:subject, '[]', :expire_us)"
        " ON CONFLICT (subject) DO UPDATE SET expire_us = excluded.expire_us RETURNING moments",
        {"subject": bound.subject, "expire_us": now_us + bound.window_us},
    )
    moments: list[int] = json.loads(rows[0]["moments"])
    return [each for each in moments if each > now_us - bound.window_us]


def _store(subject: str, moments: Sequence[int]) -> Statement:
    return Statement(
        "UPDATE throttle SET moments = :moments WHERE subject = :subject",
        {"subject": subject, "moments": json.dumps(list(moments), separators=(",", ":"))},
    )
