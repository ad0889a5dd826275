"""Branches: another answer to a message, and answers that a device made while it was offline. Nothing is rewritten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from chassis.database import Row, Statement, Unit
from context_svc.claims import claim_of
from context_svc.errors import MessageNotFound, QueueFull, TurnNotFound, TurnRunning
from context_svc.journal import Draft, Entry, Journal, Kind
from context_svc.search import Indexing
from context_svc.turn_rows import (
    ASSISTANT,
    USER,
    Key,
    NewTurn,
    TurnState,
    depth_below,
    insert_turn,
    locked_turn,
    open_rows,
    remember,
    seen,
    store_message,
)
from context_svc.turns import (
    MOST_OPEN_TURNS,
    Accepted,
    Submission,
    TurnCodec,
    Turns,
    parent_of,
    take_sequence,
)


class ImportMode(IntEnum):
    """What to do with an answer made offline. The contract's numbers."""

    KEEP = 1
    REPLACE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """A wish for another answer to the message of a turn; an action of a turn is run again."""

    key: Key
    session_id: str
    turn_id: str
    options: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineAnswer:
    """A message with the answer that a device made. `body` is the answer's serialised Message, with its model."""

    submission: Submission
    answer_id: str
    body: bytes
    preview: str
    mode: ImportMode


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A durable answer. `accepted` is the turn that makes another one, or (without a turn) the answer itself."""

    entry: Entry
    accepted: Accepted


class BranchCodec(TurnCodec, Protocol):
    """Writes what branches put into the log."""

    def turn_accepted_again(
        self, message: bytes, options: bytes, action: bytes | None, turn_id: str
    ) -> bytes:
        """A serialised TurnAccepted of a turn that repeats another one."""

    def offline_answer(
        self, body: bytes, *, answer_id: str, session_id: str, parent_id: str, sequence: int, time_us: int
    ) -> bytes:
        """The stored form of an answer that a device made."""

    def answer_imported(self, message: bytes, answer: bytes, *, replaced: bool) -> bytes:
        """A serialised AnswerImported."""


class Branches:
    """The units that add branches."""

    def __init__(
        self, journal: Journal, turns: Turns, codec: BranchCodec, indexing: Indexing | None = None
    ) -> None:
        self._journal = journal
        self._indexing = indexing
        self._turns = turns
        self._codec = codec

    def regenerate(self, again: Again, *, turn_id: str, answer_id: str, now_us: int) -> Unit[Accepted]:
        """Queue another turn for the message of one that is over.

        Raises TurnNotFound, TurnRunning, SessionEnded, QueueFull and IdempotencyKeyReused.
        """
        old = yield from locked_turn(again.key.account_id, again.session_id, again.turn_id)
        joined = yield from self._turns.joined(again.key, again.session_id)
        if joined is not None:
            return joined
        if not TurnState(old["state"]).over:
            raise TurnRunning
        open_turns = yield from open_rows(again.session_id)
        if len(open_turns) >= MOST_OPEN_TURNS:
            raise QueueFull(quota="open turns of a session")
        session = yield from take_sequence(again.key.account_id, again.session_id, now_us)
        message = yield from _stored(again.session_id, old["message_id"]) if old["message_id"] else _nothing()
        claim = claim_of(old)
        new = NewTurn(
            id=turn_id,
            session_id=again.session_id,
            account_id=again.key.account_id,
            answer_id=answer_id,
            options=again.options,
            sequence=session["last_sequence"],
            message_id=claim.message_id,
            parent_id=claim.parent_id,
            action=claim.action,
            alternative=True,
        )
        yield from insert_turn(new, now_us)
        yield from remember(again.key, again.session_id, turn_id)
        payload = self._codec.turn_accepted_again(message, again.options, claim.action, again.turn_id)
        entry = yield from self._log(Kind.TURN_ACCEPTED, new, session, payload, now_us)
        for turn in open_turns:
            if turn["state"] == TurnState.WAITING:
                yield from self._turns.waiting.supersede(turn, now_us)
        return Accepted(turn_id=turn_id, entry=entry, joined=False)

    def import_answer(
        self, offline: OfflineAnswer, *, turn_id: str, answer_id: str, now_us: int
    ) -> Unit[Imported]:
        """Store a message with a device's answer, and queue a turn for another answer if it is to be replaced.

        Raises what `Turns.accept` raises.
        """
        submission = offline.submission
        before = yield from seen(submission.key)
        if before is not None:
            return (yield from self._imported_before(offline, before))
        replaced = offline.mode is ImportMode.REPLACE
        session, open_turns = yield from self._turns.enter(submission, now_us)
        parent_id = yield from parent_of(submission, session, open_turns)
        turn = turn_id if replaced else ""
        payload, message = yield from self._store(offline, session["last_sequence"], parent_id, turn, now_us)
        new = NewTurn(
            id=turn,
            session_id=submission.session_id,
            account_id=submission.account_id,
            answer_id=answer_id,
            options=submission.options,
            sequence=session["last_sequence"] + 1,
            message_id=submission.message_id,
            alternative=True,
        )
        yield from remember(submission.key, submission.session_id, turn)
        entry = yield from self._log(Kind.ANSWER_IMPORTED, replace(new, id=""), session, payload, now_us)
        accepted = None
        if replaced:
            yield from insert_turn(new, now_us)
            session = yield from take_sequence(submission.account_id, submission.session_id, now_us)
            payload = self._codec.turn_accepted(message, submission.options)
            opened = yield from self._log(Kind.TURN_ACCEPTED, new, session, payload, now_us)
            accepted = Accepted(turn_id=turn, entry=opened, joined=False, before=(entry,))
        interrupted = yield from self._turns.make_way(submission, open_turns, now_us)
        if accepted is None:
            accepted = Accepted(turn_id="", entry=entry, joined=False)
        return Imported(entry=entry, accepted=replace(accepted, interrupted=interrupted))

    def _store(
        self, offline: OfflineAnswer, sequence: int, parent_id: str, turn_id: str, now_us: int
    ) -> Unit[tuple[bytes, bytes]]:
        """Store both messages; what the log tells of them, and the person's one."""
        submission = offline.submission
        depth = yield from depth_below(submission.session_id, parent_id)
        message = self._codec.message(
            submission.body,
            message_id=submission.message_id,
            session_id=submission.session_id,
            turn_id=turn_id,
            parent_id=parent_id,
            sequence=sequence,
            time_us=now_us,
        )
        answer = self._codec.offline_answer(
            offline.body,
            answer_id=offline.answer_id,
            session_id=submission.session_id,
            parent_id=submission.message_id,
            sequence=sequence,
            time_us=now_us,
        )
        yield from store_message(
            submission.session_id,
            message_id=submission.message_id,
            turn_id=turn_id,
            parent_id=parent_id,
            depth=depth,
            role=USER,
            sequence=sequence,
            data=message,
            preview=submission.preview,
            now_us=now_us,
            indexing=self._indexing,
        )
        yield from store_message(
            submission.session_id,
            message_id=offline.answer_id,
            turn_id="",
            parent_id=submission.message_id,
            depth=depth + 1,
            role=ASSISTANT,
            sequence=sequence,
            data=answer,
            preview=offline.preview,
            now_us=now_us,
            indexing=self._indexing,
        )
        replaced = offline.mode is ImportMode.REPLACE
        return self._codec.answer_imported(message, answer, replaced=replaced), message

    def _imported_before(self, offline: OfflineAnswer, turn_id: str) -> Unit[Imported]:
        submission = offline.submission
        rows = yield Statement(
            "SELECT e.sequence, e.kind, e.data FROM message m JOIN event e"
            " ON e.session_id = m.session_id AND e.sequence = m.sequence"
            " WHERE m.session_id = :session AND m.id = :id",
            {"session": submission.session_id, "id": submission.message_id},
        )
        if not rows:
            raise MessageNotFound
        entry = Entry(
            account_id=submission.account_id,
            session_id=submission.session_id,
            sequence=rows[0]["sequence"],
            turn_id="",
            kind=rows[0]["kind"],
            data=rows[0]["data"],
        )
        accepted = (yield from self._turns.joined(submission.key, submission.session_id)) if turn_id else None
        return Imported(entry=entry, accepted=accepted or Accepted(turn_id="", entry=entry, joined=True))

    def _log(self, kind: Kind, turn: NewTurn, session: Row, payload: bytes, now_us: int) -> Unit[Entry]:
        draft = Draft(kind=kind, turn_id=turn.id, payload=lambda _sequence, _time: payload)
        (entry,) = self._journal.numbered(
            turn.account_id, turn.session_id, session["last_sequence"], [draft], now_us
        )
        yield from self._journal.store([entry], now_us)
        return entry


def _stored(session_id: str, message_id: str) -> Unit[bytes]:
    rows = yield Statement(
        "SELECT data FROM message WHERE session_id = :session AND id = :id",
        {"session": session_id, "id": message_id},
    )
    if not rows:
        raise TurnNotFound("its message is gone")
    return bytes(rows[0]["data"])


def _nothing() -> Unit[bytes]:
    yield from ()
    return b""
