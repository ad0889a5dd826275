"""Who runs a turn: one owner at a time, known by a row it keeps renewing, fenced out the moment it is taken for dead.

A turn is claimed (owner, attempt) durably before any work on it begins; every write of its run is conditional on that
claim. A dead owner's turn ends as a failure that can be tried again; only unclaimed turns start elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from chassis.database import Engine, Row, Statement, Unit
from context_svc import audit
from context_svc.journal import Draft, Entry, Journal, Payload
from context_svc.ledger import NOTHING, UNLIMITED, Allowance, Ledger, Spent
from context_svc.search import Indexing
from context_svc.turn_rows import ASSISTANT, TurnState, depth_below, lock_session, store_message

LEASE_US = 10_000_000
# SQLite uses a partial index only for a query that repeats its condition: hence `state < 5` beside narrower ones.
_NOT_BEHIND = (
    "(q.action IS NOT NULL OR NOT EXISTS (SELECT 1 FROM turn w WHERE w.session_id = q.session_id"
    " AND w.state < 5 AND w.state IN (3, 4) AND w.accepted_sequence < q.accepted_sequence))"
)


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
    """The device that asked to stop it, "" when that was no device; None: nobody asked."""
    parent_id: str = ""
    action: bytes | None = None
    action_approved: bool = False
    job_id: str = ""
    """The job that asked for it; empty when a person did."""
    alternative: bool = False
    resumption: bytes = b""
    receipt: bytes = b""
    wait_expire_us: int | None = None
    """Until when it waits for the person; None: it does not."""
    allowance: Allowance = UNLIMITED

    @property
    def below(self) -> str:
        """The message that its answer stands below; empty at the beginning of a session."""
        return self.message_id or self.parent_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The message a turn leaves behind; it answers the claim's message.

    `data` makes its stored form from the sequence and the time of the turn's last event.
    """

    preview: str
    data: Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a run ends: its last event, the turn's new state, and the answer if anything was said.

    Without `spent` it is charged what was noted on its way, and what is `unnoted`.
    """

    state: TurnState
    draft: Draft
    answer: Answer | None = None
    reason: str = ""
    receipt: bytes = b""
    spent: Spent | None = None
    unnoted: Spent = NOTHING
    crowded: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What a run is charged so far: the turn's receipt, and what its newest steps used."""

    receipt: bytes
    spent: Spent


class Afterwards(Protocol):
    """What else belongs into the commit that ends a turn."""

    def __call__(self, claim: Claim, state: TurnState, now_us: int, /) -> Unit[None]:
        """Part of that unit; the turn is already in its last state."""


class Holding(Protocol):
    """Why a run stops on its way, what it used, and what becomes of its turn."""

    @property
    def receipt(self) -> bytes:
        """Of all its runs so far."""

    @property
    def spent(self) -> Spent:
        """By this run."""

    def let_go(self, claim: Claim, now_us: int, /) -> Unit[tuple[Entry, ...]]:
        """Part of a unit that holds the turn: store where it stopped, or end it. Answers what it logged."""


def one_after_another(*parts: Afterwards) -> Afterwards:
    """Several of them as one."""

    def afterwards(claim: Claim, state: TurnState, now_us: int) -> Unit[None]:
        for part in parts:
            yield from part(claim, state, now_us)

    return afterwards


class Claims:
    """The units that claim, extend and end runs."""

    def __init__(
        self,
        journal: Journal,
        owner: str,
        afterwards: Afterwards | None = None,
        ledger: Ledger | None = None,
        indexing: Indexing | None = None,
        crowded: Afterwards | None = None,
    ) -> None:
        self._journal = journal
        self._afterwards = afterwards
        self.ledger = ledger or Ledger()
        self._indexing = indexing
        self._crowded = crowded
        self.owner = owner

    def take(self, session_id: str, now_us: int) -> Unit[Claim | None]:
        """Claim the oldest queued turn of a session, unless one of it runs or an older one waits for the person.

        A turn of one given action does not wait for those.
        """
        yield from lock_session(session_id)
        rows = yield Statement(
            "UPDATE turn SET state = 2, attempt = attempt + 1, owner = :owner,"  # noqa: S608
            " start_us = COALESCE(start_us, :now) WHERE id = ("
            f" SELECT q.id FROM turn q WHERE q.session_id = :session AND q.state < 5 AND q.state = 1 AND {_NOT_BEHIND}"
            " ORDER BY q.accepted_sequence LIMIT 1)"
            " AND NOT EXISTS (SELECT 1 FROM turn WHERE session_id = :session AND state = 2)"
            " RETURNING *",
            {"owner": self.owner, "now": now_us, "session": session_id},
        )
        return (yield from self._with_money(claim_of(rows[0]), now_us)) if rows else None

    def append(
        self, claim: Claim, drafts: Sequence[Draft], now_us: int, noted: Noted | None = None
    ) -> Unit[tuple[Entry, ...]]:
        """Append events of a run, and what it is charged so far. Raises ClaimLost, and then nothing is kept."""
        entries = yield from self._journal.append(claim.session_id, drafts, now_us)
        yield from still_held(claim)
        if noted is not None:
            yield from self._note(claim, noted)
        yield from _audit(claim, drafts, now_us)
        return entries

    def _note(self, claim: Claim, noted: Noted) -> Unit[None]:
        """Part of a unit that holds the turn: a run that nobody can end any more is charged this."""
        yield Statement(
            "UPDATE turn SET receipt = :receipt WHERE id = :turn",
            {"receipt": noted.receipt, "turn": claim.turn_id},
        )
        yield from self.ledger.note(claim.turn_id, noted.spent)

    def end(
        self, claim: Claim, drafts: Sequence[Draft], ending: Ending, now_us: int
    ) -> Unit[tuple[Entry, ...]]:
        """Append the last events of a run with the turn's end and its answer, all or nothing."""
        entries = yield from self._journal.append(claim.session_id, [*drafts, ending.draft], now_us)
        yield from still_held(claim)
        yield from conclude(claim, ending, entries[-1].sequence, now_us, self._indexing)
        if ending.spent is None:
            yield from self.ledger.note(claim.turn_id, ending.unnoted)
        yield from self.ledger.settle(claim.turn_id, ending.spent)
        if self._afterwards is not None and claim.action is None:
            yield from self._afterwards(claim, ending.state, now_us)
        if self._crowded is not None and ending.crowded:
            yield from self._crowded(claim, ending.state, now_us)
        yield from _audit(claim, drafts, now_us)
        return entries

    def _with_money(self, claim: Claim, now_us: int) -> Unit[Claim | None]:
        """The claim with what it may cost; None, and the turn queued as it was, while others hold the rest."""
        allowance = yield from self.ledger.reserve(claim.turn_id, claim.account_id, now_us)
        if allowance is not None:
            return replace(claim, allowance=allowance)
        yield Statement(
            "UPDATE turn SET state = 1, attempt = attempt - 1, owner = NULL,"
            " start_us = CASE WHEN attempt = 1 THEN NULL ELSE start_us END WHERE id = :turn",
            {"turn": claim.turn_id},
        )
        return None

    def hold(
        self, claim: Claim, drafts: Sequence[Draft], holding: Holding, now_us: int
    ) -> Unit[tuple[Entry, ...]]:
        """Append the last events of a run that stopped on its way, and let go of its turn, all or nothing.

        A turn that somebody asked to stop meanwhile is over instead.
        """
        entries = yield from self._journal.append(claim.session_id, drafts, now_us)
        yield from still_held(claim)
        yield from self.ledger.settle(claim.turn_id, holding.spent)
        rows = yield Statement(
            "UPDATE turn SET receipt = :receipt WHERE id = :turn RETURNING *",
            {"receipt": holding.receipt, "turn": claim.turn_id},
        )
        more = yield from holding.let_go(claim_of(rows[0]), now_us)
        yield from _audit(claim, drafts, now_us)
        return (*entries, *more)


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
    return tuple(claim_of(row) for row in rows)


def held(owner: str) -> Unit[tuple[Claim, ...]]:
    """Runs that the store believes to be this owner's."""
    rows = yield Statement("SELECT * FROM turn WHERE state = 2 AND owner = :owner", {"owner": owner})
    return tuple(claim_of(row) for row in rows)


def waiting_sessions() -> Unit[tuple[tuple[str, str], ...]]:
    """Sessions, with their accounts, that have a queued turn that may run; at most 1,000."""
    rows = yield Statement(
        "SELECT DISTINCT q.session_id, q.account_id FROM turn q WHERE q.state < 5 AND q.state = 1 AND NOT EXISTS"  # noqa: S608
        f" (SELECT 1 FROM turn r WHERE r.session_id = q.session_id AND r.state = 2) AND {_NOT_BEHIND} LIMIT 1000"
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


def still_held(claim: Claim) -> Unit[None]:
    """Raises ClaimLost when the turn is not this claim's any more. Call it under the session's lock."""
    rows = yield Statement(
        "SELECT 1 AS held FROM turn WHERE id = :turn AND state = 2 AND owner = :owner AND attempt = :attempt",
        {"turn": claim.turn_id, "owner": claim.owner, "attempt": claim.attempt},
    )
    if not rows:
        raise ClaimLost(claim.turn_id)


def _audit(claim: Claim, drafts: Sequence[Draft], now_us: int) -> Unit[None]:
    """A line of the audit log for each action that ended."""
    for draft in drafts:
        if draft.audit:
            line = audit.Entry(
                event=audit.Event.ACTION_ENDED, at_us=now_us, account=claim.account_id, subject=draft.audit
            )
            yield from audit.append(line)


def conclude(
    claim: Claim, ending: Ending, sequence: int, now_us: int, indexing: Indexing | None
) -> Unit[None]:
    """Part of a unit that holds the turn: it is over. `sequence` is that of its last event."""
    if ending.answer is not None:
        yield from _store_answer(claim, ending.answer, sequence, now_us, indexing)
    elif claim.message_id and not claim.alternative:
        yield from _leave_unanswered(claim)
    yield Statement(
        "UPDATE turn SET state = :state, end_us = :now, reason = :reason, receipt = :receipt,"
        " owner = NULL, resumption = NULL, wait_expire_us = NULL WHERE id = :turn",
        {
            "state": ending.state,
            "now": now_us,
            "reason": ending.reason,
            "receipt": ending.receipt,
            "turn": claim.turn_id,
        },
    )
    if claim.job_id:
        yield Statement(
            "UPDATE job SET run_us = :now, rank = :now, horizon_us = 0 WHERE id = :job AND state = 1",
            {"now": now_us, "job": claim.job_id},
        )


def _leave_unanswered(claim: Claim) -> Unit[None]:
    """The person's message stays the newest of its branch, so that the next one follows it."""
    yield Statement(
        "UPDATE session SET head_message_id = :message WHERE id = :session",
        {"message": claim.message_id, "session": claim.session_id},
    )


def _store_answer(
    claim: Claim, answer: Answer, sequence: int, now_us: int, indexing: Indexing | None
) -> Unit[None]:
    depth = yield from depth_below(claim.session_id, claim.below)
    yield from store_message(
        claim.session_id,
        message_id=claim.answer_id,
        turn_id=claim.turn_id,
        parent_id=claim.below,
        depth=depth,
        role=ASSISTANT,
        sequence=sequence,
        data=answer.data(sequence, now_us),
        preview=answer.preview,
        now_us=now_us,
        indexing=indexing,
    )


def claim_of(row: Row) -> Claim:
    """A row of the turn table."""
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
        receipt=bytes(row["receipt"] or b""),
        parent_id=row["parent_id"],
        action=bytes(row["action"]) if row["action"] is not None else None,
        action_approved=bool(row["action_approved"]),
        job_id=row["job_id"],
        alternative=bool(row["alternative"]),
        resumption=bytes(row["resumption"] or b""),
        wait_expire_us=row["wait_expire_us"],
    )
