"""Turns: a message is accepted once and for good, and an open turn can be stopped.

Everything here is one unit of work each: the session's row is its lock, and either all of it is durable or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from chassis.database import Row, Statement, Unit
from chassis.errors import InvalidRequest, Violation
from context_svc.claims import claim_of
from context_svc.errors import (
    MessageNotFound,
    QueueFull,
    SessionEnded,
    SessionNotFound,
    TurnNotFound,
    TurnOver,
    TurnRunning,
)
from context_svc.journal import Draft, Entry, Journal, Kind
from context_svc.search import Indexing
from context_svc.turn_rows import (
    USER,
    Key,
    NewTurn,
    TurnState,
    depth_below,
    insert_turn,
    locked_turn,
    note_cancel,
    open_rows,
    remember,
    seen,
    store_message,
)
from context_svc.waiting import CANCELLED, WaitCodec, Waiting

OPEN_SESSION = 1
MOST_OPEN_TURNS = 100


class BusyPolicy(IntEnum):
    """What happens to a message while another turn of its session is open. The contract's numbers."""

    QUEUE = 1
    REJECT = 2
    INTERRUPT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A message on its way in, checked and decoded.

    `body` is the serialised Message with only what the person gave (parts, metadata, marks); `body_hash` is
    SHA-256 over session, parent and parts. `preview` is what a list of sessions shows. `beside` is the message that
    it says differently, if it does.
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
    beside: str = ""

    @property
    def key(self) -> Key:
        """What makes it the same message when it comes again."""
        return Key(account_id=self.account_id, request_id=self.message_id, body_hash=self.body_hash)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted:
    """Turns that were stopped together: the TurnCancelled of those that had not begun, and the running ones."""

    entries: tuple[Entry, ...]
    running: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A turn whose TurnAccepted is durable. `joined` means that an earlier call had stored it already.

    `before` is what the same commit put into the log before it.
    """

    turn_id: str
    entry: Entry
    joined: bool
    interrupted: Interrupted | None = None
    before: tuple[Entry, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    """A durable cancellation. `entries` holds the TurnCancelled of a turn that had not begun."""

    state: TurnState
    entries: tuple[Entry, ...]


class TurnCodec(WaitCodec, Protocol):
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


class Turns:
    """The units that open and stop turns."""

    def __init__(self, journal: Journal, codec: TurnCodec, indexing: Indexing | None = None) -> None:
        self._journal = journal
        self._codec = codec
        self._indexing = indexing
        self.waiting = Waiting(journal, codec, indexing)

    def accept(self, submission: Submission, *, turn_id: str, answer_id: str, now_us: int) -> Unit[Accepted]:
        """Store a message with its queued turn, or find the turn that an earlier call made of it.

        Raises SessionNotFound, SessionEnded, MessageNotFound (the parent), TurnRunning, QueueFull and
        IdempotencyKeyReused.
        """
        joined = yield from self.joined(submission.key, submission.session_id)
        if joined is not None:
            return joined
        session, open_turns = yield from self.enter(submission, now_us)
        parent_id = yield from parent_of(submission, session, open_turns)
        entry = yield from self._open(submission, session, parent_id, turn_id, answer_id, now_us)
        interrupted = yield from self.make_way(submission, open_turns, now_us)
        return Accepted(turn_id=turn_id, entry=entry, joined=False, interrupted=interrupted)

    def enter(self, submission: Submission, now_us: int) -> Unit[tuple[Row, Sequence[Row]]]:
        """Part of a unit: take a sequence of the session for a new message, with its open turns.

        Raises SessionNotFound, SessionEnded, TurnRunning and QueueFull.
        """
        session = yield from take_sequence(submission.key.account_id, submission.session_id, now_us)
        open_turns = yield from open_rows(submission.session_id)
        if open_turns and submission.policy is BusyPolicy.REJECT:
            raise TurnRunning
        if len(open_turns) >= MOST_OPEN_TURNS:
            raise QueueFull(quota="open turns of a session")
        return session, open_turns

    def make_way(
        self, submission: Submission, open_turns: Sequence[Row], now_us: int
    ) -> Unit[Interrupted | None]:
        """Part of a unit: a newer message stops the open turns, or takes the place of what they wait for."""
        if submission.policy is BusyPolicy.INTERRUPT:
            return (yield from self._interrupt(open_turns, now_us))
        for turn in open_turns:
            if turn["state"] == TurnState.WAITING:
                yield from self.waiting.supersede(turn, now_us)
        return None

    def cancel(
        self, account_id: str, session_id: str, turn_id: str, *, request_id: str, device_id: str, now_us: int
    ) -> Unit[Cancelled]:
        """Stop a turn: at once when it is queued, else by a note that its owner acts on.

        Raises TurnNotFound, and TurnOver unless this very request had stopped it.
        """
        turn = yield from locked_turn(account_id, session_id, turn_id)
        state = TurnState(turn["state"])
        if state.over:
            if turn["cancel_request"] == request_id:
                return Cancelled(state=state, entries=())
            raise TurnOver
        yield from note_cancel(turn_id, request_id, device_id)
        if state is TurnState.RUNNING:
            return Cancelled(state=state, entries=())
        entries = yield from self.waiting.end(claim_of(turn), CANCELLED, device_id, now_us)
        return Cancelled(state=state, entries=entries)

    def joined(self, key: Key, session_id: str) -> Unit[Accepted | None]:
        """The turn that an earlier call made under this id. Raises IdempotencyKeyReused and TurnNotFound."""
        turn_id = yield from seen(key)
        if turn_id is None:
            return None
        rows = yield Statement(
            "SELECT e.sequence, e.data FROM turn t JOIN event e"
            " ON e.session_id = t.session_id AND e.sequence = t.accepted_sequence WHERE t.id = :turn",
            {"turn": turn_id},
        )
        if not rows:
            raise TurnNotFound
        entry = Entry(
            account_id=key.account_id,
            session_id=session_id,
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
            indexing=self._indexing,
        )
        new = NewTurn(
            id=turn_id,
            session_id=submission.session_id,
            account_id=submission.key.account_id,
            answer_id=answer_id,
            options=submission.options,
            sequence=session["last_sequence"],
            message_id=submission.message_id,
        )
        yield from insert_turn(new, now_us)
        yield from remember(submission.key, submission.session_id, turn_id)
        (entry,) = self._journal.numbered(
            submission.key.account_id,
            submission.session_id,
            session["last_sequence"],
            [accepted_draft(self._codec, turn_id, message, submission.options)],
            now_us,
        )
        yield from self._journal.store([entry], now_us)
        return entry

    def interrupt(self, session_id: str, now_us: int) -> Unit[Interrupted]:
        """Stop every open turn of a session whose row the unit has locked."""
        return (yield from self._interrupt((yield from open_rows(session_id)), now_us))

    def _interrupt(self, open_turns: Sequence[Row], now_us: int) -> Unit[Interrupted]:
        entries: tuple[Entry, ...] = ()
        running = []
        for turn in open_turns:
            yield from note_cancel(turn["id"], "", "")
            if turn["state"] == TurnState.RUNNING:
                running.append(turn["id"])
            else:
                entries += yield from self.waiting.end(claim_of(turn), CANCELLED, "", now_us)
        return Interrupted(entries=entries, running=tuple(running))


def accepted_draft(codec: TurnCodec, turn_id: str, message: bytes, options: bytes) -> Draft:
    """The TurnAccepted of a message that is stored in the same unit."""
    payload = codec.turn_accepted(message, options)
    return Draft(kind=Kind.TURN_ACCEPTED, turn_id=turn_id, payload=lambda _sequence, _time: payload)


def take_sequence(account_id: str, session_id: str, now_us: int) -> Unit[Row]:
    """Lock an open session and take its next sequence. Raises SessionNotFound and SessionEnded."""
    rows = yield Statement(
        "UPDATE session SET last_sequence = last_sequence + 1, update_us = :now"
        " WHERE id = :session AND account_id = :account RETURNING last_sequence, state, head_message_id",
        {"now": now_us, "session": session_id, "account": account_id},
    )
    if not rows:
        raise SessionNotFound
    if rows[0]["state"] != OPEN_SESSION:
        raise SessionEnded
    return rows[0]


def parent_of(submission: Submission, session: Row, open_turns: Sequence[Row]) -> Unit[str]:
    """What a new message answers when it does not say: behind open turns, the answer the last one will have.

    Raises MessageNotFound and InvalidRequest for a message to say differently.
    """
    if not submission.beside:
        newest = open_turns[-1]["answer_id"] if open_turns else session["head_message_id"]
        return submission.parent_id or newest or ""
    rows = yield Statement(
        "SELECT parent_id, role FROM message WHERE session_id = :session AND id = :id",
        {"session": submission.session_id, "id": submission.beside},
    )
    if not rows:
        raise MessageNotFound
    if rows[0]["role"] != USER:
        raise InvalidRequest(violations=[_NOT_THEIRS])
    return str(rows[0]["parent_id"])


_NOT_THEIRS = Violation(
    field="message_id", description="only the person's own messages can be edited", rule="message.role"
)
