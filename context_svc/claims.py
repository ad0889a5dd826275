"""Who runs a turn: one owner at a time, known by a row it keeps renewing, fenced out the moment it is taken for dead.

A turn is claimed (owner, attempt) durably before any work on it begins; every write of its run is conditional on that
claim. A dead owner's turn ends as a failure that can be tried again; only unclaimed turns start elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.database import Engine, Row, Statement, Unit
from context_svc.journal import Draft, Entry, Journal, Payload
from context_svc.turns import ASSISTANT, TurnState, depth_below, lock_session, store_message

LEASE_US = 10_000_000


class ClaimLost(Exception):
    """The turn is not this owner's any more: stop, and write nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The right to run one turn, once."""

    turn_id: str
    session_id: str
    account_id: str
    owner: str
    attempt: int
    message_id: str
    answer_id: str
    options: bytes
    accepted_sequence: int
    cancel_device: str | None
    """The device that asked to stop it before it began, "" when that was no device; None: nobody asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The message a turn leaves behind; it answers the claim's message.

    `data` makes its stored form from the sequence and the time of the turn's last event.
    """

    preview: str
    data: Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a run ends: its last event, the turn's new state, and the answer if anything was said."""

    state: TurnState
    draft: Draft
    answer: Answer | None = None
    reason: str = ""
    receipt: bytes = b""


class Afterwards(Protocol):
    """What else belongs into the commit that ends a turn."""

    def __call__(self, claim: Claim, state: TurnState, now_us: int, /) -> Unit[None]:
        """Part of that unit; the turn is already in its last state."""


def one_after_another(*parts: Afterwards) -> Afterwards:
    """Several of them as one."""

    def afterwards(claim: Claim, state: TurnState, now_us: int) -> Unit[None]:
        for part in parts:
            yield from part(claim, state, now_us)

    return afterwards


class Claims:
    """The units that claim, extend and end runs."""

    def __init__(self, journal: Journal, owner: str, afterwards: Afterwards | None = None) -> None:
        self._journal = journal
        self._afterwards = afterwards
        self.owner = owner

    def take(self, session_id: str, now_us: int) -> Unit[Claim | None]:
        """Claim the oldest queued turn of a session, unless one of it runs."""
        yield from lock_session(session_id)
        rows = yield Statement(
            "UPDATE turn SET state = 2, attempt = attempt + 1, owner = :owner, start_us = :now WHERE id = ("
            " SELECT id FROM turn WHERE session_id = :session AND state = 1"
            " ORDER BY accepted_sequence LIMIT 1)"
            " AND NOT EXISTS (SELECT 1 FROM turn WHERE session_id = :session AND state = 2)"
            " RETURNING *",
            {"owner": self.owner, "now": now_us, "session": session_id},
        )
        return _claim(rows[0]) if rows else None

    def append(self, claim: Claim, drafts: Sequence[Draft], now_us: int) -> Unit[tuple[Entry, ...]]:
        """Append events of a run. Raises ClaimLost, and then nothing is kept."""
        entries = yield from self._journal.append(claim.session_id, drafts, now_us)
        yield from _still_held(claim)
        return entries

    def end(
        self, claim: Claim, drafts: Sequence[Draft], ending: Ending, now_us: int
    ) -> Unit[tuple[Entry, ...]]:
        """Append the last events of a run with the turn's end and its answer, all or nothing."""
        entries = yield from self._journal.append(claim.session_id, [*drafts, ending.draft], now_us)
        yield from _still_held(claim)
        if ending.answer is None:
            yield from _leave_unanswered(claim)
        else:
            yield from _store_answer(claim, ending.answer, entries[-1].sequence, now_us)
        yield Statement(
            "UPDATE turn SET state = :state, end_us = :now, reason = :reason, receipt = :receipt,"
            " owner = NULL WHERE id = :turn",
            {
                "state": ending.state,
                "now": now_us,
                "reason": ending.reason,
                "receipt": ending.receipt,
                "turn": claim.turn_id,
            },
        )
        if self._afterwards is not None:
            yield from self._afterwards(claim, ending.state, now_us)
        return entries


def renew(owner: str, engine: Engine, now_us: int) -> Unit[None]:
    """Say that this owner lives, for ten seconds more."""
    now_us = yield from database_now(engine, now_us)
    yield Statement(
        "INSERT INTO owner (id, expire_us) VALUES (:id, :expire)"
        " ON CONFLICT (id) DO UPDATE SET expire_us = excluded.expire_us",
        {"id": owner, "expire": now_us + LEASE_US},
    )


def outlive(owner: str) -> Unit[None]:
    """Forget every other owner: for a store that only one process can open at a time."""
    yield Statement("DELETE FROM owner WHERE id <> :id", {"id": owner})


def database_now(engine: Engine, now_us: int) -> Unit[int]:
    """The time that all owners of one store agree on: the database's own, or this machine's for SQLite."""
    if engine == "sqlite":
        return now_us
    rows = yield Statement("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_us")
    result: int = rows[0]["now_us"]
    return result


def orphans(engine: Engine, now_us: int) -> Unit[tuple[Claim, ...]]:
    """Runs whose owner is dead, at most 100."""
    now_us = yield from database_now(engine, now_us)
    rows = yield Statement(
        "SELECT t.* FROM turn t LEFT JOIN owner o ON o.id = t.owner"
        " WHERE t.state = 2 AND (o.id IS NULL OR o.expire_us < :now) LIMIT 100",
        {"now": now_us},
    )
    return tuple(_claim(row) for row in rows)


def held(owner: str) -> Unit[tuple[Claim, ...]]:
    """Runs that the store believes to be this owner's."""
    rows = yield Statement("SELECT * FROM turn WHERE state = 2 AND owner = :owner", {"owner": owner})
    return tuple(_claim(row) for row in rows)


def waiting_sessions() -> Unit[tuple[tuple[str, str], ...]]:
    """Sessions, with their accounts, that have a queued turn and none running; at most 1,000."""
    rows = yield Statement(
        "SELECT DISTINCT t.session_id, t.account_id FROM turn t WHERE t.state = 1 AND NOT EXISTS"
        " (SELECT 1 FROM turn r WHERE r.session_id = t.session_id AND r.state = 2) LIMIT 1000"
    )
    return tuple((row["session_id"], row["account_id"]) for row in rows)


def cancellations(owner: str) -> Unit[tuple[tuple[str, str], ...]]:
    """Turns of this owner that somebody asked to stop, with the device that asked."""
    rows = yield Statement(
        "SELECT id, cancel_device FROM turn WHERE state = 2 AND owner = :owner"
        " AND cancel_request IS NOT NULL",
        {"owner": owner},
    )
    return tuple((row["id"], row["cancel_device"] or "") for row in rows)


def _still_held(claim: Claim) -> Unit[None]:
    rows = yield Statement(
        "SELECT 1 AS held FROM turn WHERE id = :turn AND state = 2 AND owner = :owner AND attempt = :attempt",
        {"turn": claim.turn_id, "owner": claim.owner, "attempt": claim.attempt},
    )
    if not rows:
        raise ClaimLost(claim.turn_id)


def _leave_unanswered(claim: Claim) -> Unit[None]:
    """The person's message stays the newest of its branch, so that the next one follows it."""
    yield Statement(
        "UPDATE session SET head_message_id = :message WHERE id = :session",
        {"message": claim.message_id, "session": claim.session_id},
    )


def _store_answer(claim: Claim, answer: Answer, sequence: int, now_us: int) -> Unit[None]:
    depth = yield from depth_below(claim.session_id, claim.message_id)
    yield from store_message(
        claim.session_id,
        message_id=claim.answer_id,
        turn_id=claim.turn_id,
        parent_id=claim.message_id,
        depth=depth,
        role=ASSISTANT,
        sequence=sequence,
        data=answer.data(sequence, now_us),
        preview=answer.preview,
        now_us=now_us,
    )


def _claim(row: Row) -> Claim:
    return Claim(
        turn_id=row["id"],
        session_id=row["session_id"],
        account_id=row["account_id"],
        owner=row["owner"] or "",
        attempt=row["attempt"],
        message_id=row["message_id"],
        answer_id=row["answer_id"],
        options=bytes(row["options"]),
        accepted_sequence=row["accepted_sequence"],
        cancel_device=row["cancel_device"] if row["cancel_request"] is not None else None,
    )
