"""Turns: a message is accepted once and for good, and an open turn can be stopped.

Everything here is one unit of work each: the session's row is its lock, and either all of it is durable or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from chassis import failpoints
from chassis.database import Row, Statement, Unit
from context_svc.errors import (
    IdempotencyKeyReused,
    MessageNotFound,
    QueueFull,
    SessionEnded,
    SessionNotFound,
    TurnNotFound,
    TurnOver,
    TurnRunning,
)
from context_svc.journal import Draft, Entry, Journal, Kind

OPEN_SESSION = 1
MOST_OPEN_TURNS = 100
USER = 1
ASSISTANT = 2


class TurnState(IntEnum):
    """Where a turn stands. The numbers are those of the contract, and are stored."""

    QUEUED = 1
    RUNNING = 2
    WAITING = 3
    KEY_NEEDED = 4
    FINISHED = 5
    FAILED = 6
    CANCELLED = 7

    @property
    def over(self) -> bool:
        """Whether nothing can happen to the turn any more."""
        return self >= TurnState.FINISHED


class BusyPolicy(IntEnum):
    """What happens to a message while another turn of its session is open. The contract's numbers."""

    QUEUE = 1
    REJECT = 2
    INTERRUPT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A message on its way in, checked and decoded.

    `body` is the serialised Message with only what the person gave (parts, metadata, marks); `body_hash` is
    SHA-256 over session, parent and parts. `preview` is what a list of sessions shows.
    """

    account_id: str
    session_id: str
    message_id: str
    parent_id: str
    body: bytes
    body_hash: bytes
    options: bytes
    preview: str
    policy: BusyPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted:
    """Turns that were stopped together: the TurnCancelled of those that had not begun, and the running ones."""

    entries: tuple[Entry, ...]
    running: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A durable message. `joined` means that an earlier call had stored it already."""

    turn_id: str
    entry: Entry
    joined: bool
    interrupted: Interrupted | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    """A durable cancellation. `entries` holds the TurnCancelled of a turn that had not begun."""

    state: TurnState
    entries: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTurn:
    """A turn that is not over. `state` is the contract's number; times are microseconds since 1970."""

    turn_id: str
    state: int
    message_id: str
    sequence: int
    expire_us: int | None


class TurnCodec(Protocol):
    """Writes what turns put into the log."""

    def message(
        self,
        body: bytes,
        *,
        message_id: str,
        session_id: str,
        turn_id: str,
        parent_id: str,
        sequence: int,
        time_us: int,
    ) -> bytes:
        """The stored form of a message: `body` with what the server sets."""

    def turn_accepted(self, message: bytes, options: bytes) -> bytes:
        """A serialised TurnAccepted."""

    def turn_cancelled(self, partial: bytes, usage: bytes, device_id: str) -> bytes:
        """A serialised TurnCancelled; `partial` and `usage` may be empty."""


class Turns:
    """The units that open and stop turns."""

    def __init__(self, journal: Journal, codec: TurnCodec) -> None:
        self._journal = journal
        self._codec = codec

    def accept(self, submission: Submission, *, turn_id: str, answer_id: str, now_us: int) -> Unit[Accepted]:
        """Store a message with its queued turn, or find the turn that an earlier call made of it.

        Raises SessionNotFound, SessionEnded, MessageNotFound (the parent), TurnRunning, QueueFull and
        IdempotencyKeyReused.
        """
        joined = yield from self._joined(submission)
        if joined is not None:
            return joined
        session = yield from _take_sequence(submission, now_us)
        open_turns = yield from _open_turns(submission.session_id)
        if open_turns and submission.policy is BusyPolicy.REJECT:
            raise TurnRunning
        if len(open_turns) >= MOST_OPEN_TURNS:
            raise QueueFull(quota="open turns of a session")
        parent_id = _parent(submission, session, open_turns)
        entry = yield from self._open(submission, session, parent_id, turn_id, answer_id, now_us)
        interrupted = None
        if submission.policy is BusyPolicy.INTERRUPT:
            interrupted = yield from self._interrupt(submission.session_id, open_turns, now_us)
        return Accepted(turn_id=turn_id, entry=entry, joined=False, interrupted=interrupted)

    def cancel(
        self, account_id: str, session_id: str, turn_id: str, *, request_id: str, device_id: str, now_us: int
    ) -> Unit[Cancelled]:
        """Stop a turn: at once when it is queued, else by a note that its owner acts on.

        Raises TurnNotFound, and TurnOver unless this very request had stopped it.
        """
        turn = yield from _locked_turn(account_id, session_id, turn_id)
        state = TurnState(turn["state"])
        if state.over:
            if turn["cancel_request"] == request_id:
                return Cancelled(state=state, entries=())
            raise TurnOver
        yield from _note_cancel(turn_id, request_id, device_id)
        if state is TurnState.RUNNING:
            return Cancelled(state=state, entries=())
        entries = yield from self._cancel_queued(session_id, turn_id, device_id, now_us)
        return Cancelled(state=state, entries=entries)

    def _joined(self, submission: Submission) -> Unit[Accepted | None]:
        rows = yield Statement(
            "SELECT body_hash, turn_id FROM idempotency"
            " WHERE account_id = :account AND request_id = :request",
            {"account": submission.account_id, "request": submission.message_id},
        )
        if not rows:
            return None
        if bytes(rows[0]["body_hash"]) != submission.body_hash:
            raise IdempotencyKeyReused
        turn_id = rows[0]["turn_id"]
        rows = yield Statement(
            "SELECT e.sequence, e.data FROM turn t JOIN event e"
            " ON e.session_id = t.session_id AND e.sequence = t.accepted_sequence WHERE t.id = :turn",
            {"turn": turn_id},
        )
        if not rows:
            raise TurnNotFound
        entry = Entry(
            account_id=submission.account_id,
            session_id=submission.session_id,
            sequence=rows[0]["sequence"],
            turn_id=turn_id,
            kind=Kind.TURN_ACCEPTED,
            data=rows[0]["data"],
        )
        return Accepted(turn_id=turn_id, entry=entry, joined=True)

    def _open(
        self,
        submission: Submission,
        session: Row,
        parent_id: str,
        turn_id: str,
        answer_id: str,
        now_us: int,
    ) -> Unit[Entry]:
        depth = yield from depth_below(submission.session_id, parent_id)
        message = self._codec.message(
            submission.body,
            message_id=submission.message_id,
            session_id=submission.session_id,
            turn_id=turn_id,
            parent_id=parent_id,
            sequence=session["last_sequence"],
            time_us=now_us,
        )
        yield from store_message(
            submission.session_id,
            message_id=submission.message_id,
            turn_id=turn_id,
            parent_id=parent_id,
            depth=depth,
            role=USER,
            sequence=session["last_sequence"],
            data=message,
            preview=submission.preview,
            now_us=now_us,
        )
        yield from _insert_turn(submission, turn_id, answer_id, session["last_sequence"], now_us)
        (entry,) = self._journal.numbered(
            submission.account_id,
            submission.session_id,
            session["last_sequence"],
            [accepted_draft(self._codec, turn_id, message, submission.options)],
            now_us,
        )
        yield from self._journal.store([entry], now_us)
        return entry

    def interrupt(self, session_id: str, now_us: int) -> Unit[Interrupted]:
        """Stop every open turn of a session whose row the unit has locked."""
        open_turns = yield from _open_turns(session_id)
        return (yield from self._interrupt(session_id, open_turns, now_us))

    def _interrupt(self, session_id: str, open_turns: Sequence[Row], now_us: int) -> Unit[Interrupted]:
        entries: tuple[Entry, ...] = ()
        running = []
        for turn in open_turns:
            yield from _note_cancel(turn["id"], "", "")
            if turn["state"] == TurnState.RUNNING:
                running.append(turn["id"])
            else:
                entries += yield from self._cancel_queued(session_id, turn["id"], "", now_us)
        return Interrupted(entries=entries, running=tuple(running))

    def _cancel_queued(
        self, session_id: str, turn_id: str, device_id: str, now_us: int
    ) -> Unit[tuple[Entry, ...]]:
        yield Statement(
            "UPDATE turn SET state = :state, end_us = :now WHERE id = :turn",
            {"state": TurnState.CANCELLED, "now": now_us, "turn": turn_id},
        )
        payload = self._codec.turn_cancelled(b"", b"", device_id)
        draft = Draft(kind=Kind.TURN_CANCELLED, turn_id=turn_id, payload=lambda _sequence, _time: payload)
        return (yield from self._journal.append(session_id, [draft], now_us))


def accepted_draft(codec: TurnCodec, turn_id: str, message: bytes, options: bytes) -> Draft:
    """The TurnAccepted of a message that is stored in the same unit."""
    payload = codec.turn_accepted(message, options)
    return Draft(kind=Kind.TURN_ACCEPTED, turn_id=turn_id, payload=lambda _sequence, _time: payload)


def store_message(
    session_id: str,
    *,
    message_id: str,
    turn_id: str,
    parent_id: str,
    depth: int,
    role: int,
    sequence: int,
    data: bytes,
    preview: str,
    now_us: int,
) -> Unit[None]:
    """Store a message and make it the newest of its session."""
    yield Statement(
        "INSERT INTO message (session_id, id, turn_id, parent_id, depth, role, sequence, create_us, data)"
        " VALUES (:session, :id, :turn, :parent, :depth, :role, :sequence, :now, :data)",
        {
            "session": session_id,
            "id": message_id,
            "turn": turn_id,
            "parent": parent_id,
            "depth": depth,
            "role": role,
            "sequence": sequence,
            "now": now_us,
            "data": data,
        },
    )
    yield Statement(
        "UPDATE session SET head_message_id = :id, preview = :preview WHERE id = :session",
        {"id": message_id, "preview": preview, "session": session_id},
    )


def _take_sequence(submission: Submission, now_us: int) -> Unit[Row]:
    rows = yield Statement(
        "UPDATE session SET last_sequence = last_sequence + 1, update_us = :now"
        " WHERE id = :session AND account_id = :account RETURNING last_sequence, state, head_message_id",
        {"now": now_us, "session": submission.session_id, "account": submission.account_id},
    )
    if not rows:
        raise SessionNotFound
    if rows[0]["state"] != OPEN_SESSION:
        raise SessionEnded
    return rows[0]


def _parent(submission: Submission, session: Row, open_turns: Sequence[Row]) -> str:
    """What a new message answers when it does not say: behind open turns, the answer the last one will have."""
    newest = open_turns[-1]["answer_id"] if open_turns else session["head_message_id"]
    return submission.parent_id or newest or ""


def open_turns(session_id: str) -> Unit[tuple[OpenTurn, ...]]:
    """The turns of a session that are not over, oldest first."""
    rows = yield Statement(
        "SELECT id, state, message_id, accepted_sequence FROM turn WHERE session_id = :session AND state < 5"
        " ORDER BY accepted_sequence",
        {"session": session_id},
    )
    return tuple(
        OpenTurn(
            turn_id=row["id"],
            state=row["state"],
            message_id=row["message_id"],
            sequence=row["accepted_sequence"],
            expire_us=None,
        )
        for row in rows
    )


def _open_turns(session_id: str) -> Unit[Sequence[Row]]:
    return (
        yield Statement(
            "SELECT id, state, answer_id FROM turn WHERE session_id = :session AND state < 5"
            " ORDER BY accepted_sequence",
            {"session": session_id},
        )
    )


def depth_below(session_id: str, parent_id: str) -> Unit[int]:
    """How deep a child of that message, or of that coming answer, stands in the tree; 0 without one.

    Raises MessageNotFound.
    """
    if not parent_id:
        return 0
    rows = yield Statement(
        "SELECT depth + 1 AS depth FROM message WHERE session_id = :session AND id = :id"
        " UNION ALL SELECT m.depth + 2 AS depth FROM turn t"
        " JOIN message m ON m.session_id = t.session_id AND m.id = t.message_id"
        " WHERE t.session_id = :session AND t.answer_id = :id",
        {"session": session_id, "id": parent_id},
    )
    if not rows:
        raise MessageNotFound("the parent of a new message")
    return min(int(row["depth"]) for row in rows)


def _insert_turn(
    submission: Submission, turn_id: str, answer_id: str, sequence: int, now_us: int
) -> Unit[None]:
    yield Statement(
        "INSERT INTO turn (id, session_id, account_id, state, message_id, answer_id, options,"
        " accepted_sequence, create_us)"
        " VALUES (:id, :session, :account, :state, :message, :answer, :options, :sequence, :now)",
        {
            "id": turn_id,
            "session": submission.session_id,
            "account": submission.account_id,
            "state": TurnState.QUEUED,
            "message": submission.message_id,
            "answer": answer_id,
            "options": submission.options,
            "sequence": sequence,
            "now": now_us,
        },
    )
    yield Statement(
        "INSERT INTO idempotency (account_id, request_id, session_id, body_hash, turn_id)"
        " VALUES (:account, :request, :session, :hash, :turn)",
        {
            "account": submission.account_id,
            "request": submission.message_id,
            "session": submission.session_id,
            "hash": submission.body_hash,
            "turn": turn_id,
        },
    )
    failpoints.reach("after_idem_row")


def _locked_turn(account_id: str, session_id: str, turn_id: str) -> Unit[Row]:
    yield from lock_session(session_id)
    rows = yield Statement(
        "SELECT state, cancel_request FROM turn"
        " WHERE id = :turn AND session_id = :session AND account_id = :account",
        {"turn": turn_id, "session": session_id, "account": account_id},
    )
    if not rows:
        raise TurnNotFound
    return rows[0]


def lock_session(session_id: str) -> Unit[None]:
    """Take the lock under which everything of a session is written, before what it guards is read."""
    yield Statement("UPDATE session SET state = state WHERE id = :session", {"session": session_id})


def _note_cancel(turn_id: str, request_id: str, device_id: str) -> Unit[None]:
    yield Statement(
        "UPDATE turn SET cancel_request = :request, cancel_device = :device"
        " WHERE id = :turn AND cancel_request IS NULL",
        {"request": request_id, "device": device_id, "turn": turn_id},
    )
