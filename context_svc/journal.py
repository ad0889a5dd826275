"""The log of a session: dense, durable before anyone sees it, the same bytes for every reader.

A unit of work appends drafts; the sequence they get is the lock of their session. What a committed unit returns is
published to the readers in commit order, from memory: the database serves only those who catch up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

from chassis.database import Statement, Unit
from context_svc.errors import SessionNotFound


class Kind(IntEnum):
    """What an event says. The numbers are those of ChatEvent's fields, and are stored."""

    TURN_ACCEPTED = 10
    TURN_STARTED = 11
    TEXT_DELTA = 12
    REASONING_DELTA = 13
    TOOL_STARTED = 14
    TOOL_PROGRESS = 15
    TOOL_FINISHED = 16
    APPROVAL_REQUESTED = 17
    INPUT_REQUESTED = 18
    ATTACHMENT_ADDED = 19
    CONTEXT_CHANGED = 20
    TURN_SUSPENDED = 21
    TURN_FINISHED = 22
    TURN_FAILED = 23
    TURN_CANCELLED = 24
    MESSAGES_CLEARED = 25
    SESSION_CHANGED = 26
    ANSWER_IMPORTED = 27
    REMINDER_DUE = 28
    JOB_FINISHED = 29


ENDINGS = frozenset({Kind.TURN_FINISHED, Kind.TURN_FAILED, Kind.TURN_CANCELLED})
"""The kinds that end a turn: nothing of the turn follows them."""

Payload: TypeAlias = Callable[[int, int], bytes]
"""Makes an event's own message, serialised, from its sequence and its time in microseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """An event before it has a number. `audit` is what the audit log tells of it: an action, its agent, its outcome."""

    kind: Kind
    turn_id: str
    payload: Payload
    audit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An event of the log. `data` is the serialised ChatEvent that every reader gets."""

    account_id: str
    session_id: str
    sequence: int
    turn_id: str
    kind: int
    data: bytes


class EventCodec(Protocol):
    """Puts the envelope around an event. The only thing the journal knows of the wire format."""

    def event(
        self, kind: int, payload: bytes, *, session_id: str, turn_id: str, sequence: int, time_us: int
    ) -> bytes:
        """A serialised ChatEvent."""


class Publish(Protocol):
    """Hands committed entries to whoever reads now. Must not raise and must not wait."""

    def __call__(self, entries: Iterable[Entry], /) -> None:
        """Deliver in the given order."""


class Journal:
    """Appends to logs. Its methods are units of work, or parts of one."""

    def __init__(self, codec: EventCodec) -> None:
        self._codec = codec

    def append(self, session_id: str, drafts: Sequence[Draft], now_us: int) -> Unit[tuple[Entry, ...]]:
        """Number and store `drafts`. The session's row is locked until the commit. Raises SessionNotFound."""
        rows = yield Statement(
            "UPDATE session SET last_sequence = last_sequence + :count, update_us = :now"
            " WHERE id = :session RETURNING last_sequence, account_id",
            {"count": len(drafts), "now": now_us, "session": session_id},
        )
        if not rows:
            raise SessionNotFound
        first = rows[0]["last_sequence"] - len(drafts) + 1
        entries = self.numbered(rows[0]["account_id"], session_id, first, drafts, now_us)
        yield from self.store(entries, now_us)
        return entries

    def numbered(
        self, account_id: str, session_id: str, first: int, drafts: Sequence[Draft], now_us: int
    ) -> tuple[Entry, ...]:
        """Give drafts their sequences, from `first` on, which the caller took from the session's row."""
        return tuple(
            self._entry(draft, account_id, session_id, first + index, now_us)
            for index, draft in enumerate(drafts)
        )

    def store(self, entries: Iterable[Entry], now_us: int) -> Unit[None]:
        """Store entries whose sequences the caller took from the session's row in this unit."""
        for entry in entries:
            yield Statement(
                "INSERT INTO event (session_id, sequence, turn_id, kind, create_us, data)"
                " VALUES (:session, :sequence, :turn, :kind, :now, :data)",
                {
                    "session": entry.session_id,
                    "sequence": entry.sequence,
                    "turn": entry.turn_id,
                    "kind": entry.kind,
                    "now": now_us,
                    "data": entry.data,
                },
            )

    def _entry(self, draft: Draft, account_id: str, session_id: str, sequence: int, now_us: int) -> Entry:
        data = self._codec.event(
            draft.kind,
            draft.payload(sequence, now_us),
            session_id=session_id,
            turn_id=draft.turn_id,
            sequence=sequence,
            time_us=now_us,
        )
        return Entry(
            account_id=account_id,
            session_id=session_id,
            sequence=sequence,
            turn_id=draft.turn_id,
            kind=draft.kind,
            data=data,
        )


def entries_after(
    session_id: str, account_id: str, sequence: int, limit: int, most_bytes: int | None = None
) -> Unit[tuple[Entry, ...]]:
    """At most `limit` entries of the log after `sequence`, in order, and `most_bytes` in all but for the first."""
    through = None
    if most_bytes is not None:
        through = yield from _within(session_id, sequence, limit, most_bytes)
    rows = yield Statement(
        "SELECT sequence, turn_id, kind, data FROM event"
        " WHERE session_id = :session AND sequence > :sequence AND sequence <= :through"
        " ORDER BY sequence LIMIT :limit",
        {
            "session": session_id,
            "sequence": sequence,
            "through": 2**62 if through is None else through,
            "limit": limit,
        },
    )
    return tuple(
        Entry(
            account_id=account_id,
            session_id=session_id,
            sequence=row["sequence"],
            turn_id=row["turn_id"],
            kind=row["kind"],
            data=row["data"],
        )
        for row in rows
    )


def _within(session_id: str, sequence: int, limit: int, most_bytes: int) -> Unit[int | None]:
    """The last of the next `limit` entries that fits into so many bytes with those before it; None: all fit."""
    rows = yield Statement(
        "SELECT sequence, LENGTH(data) AS size FROM event"
        " WHERE session_id = :session AND sequence > :sequence ORDER BY sequence LIMIT :limit",
        {"session": session_id, "sequence": sequence, "limit": limit},
    )
    total, through = 0, None
    for row in rows:
        total += row["size"]
        if total > most_bytes and through is not None:
            return through
        through = int(row["sequence"])
    return None
