"""Turns that wait for the person: what they ask, who answers, and what becomes of those that nobody answers.

A waiting turn has no owner. Its questions stand in the log together with TurnSuspended, so that whoever sees one can
answer it. Each is answered once: by the person, by a newer message that takes its place, or by the end of its time.
When none is open any more the turn is queued again and goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from chassis.errors import InvalidRequest, Violation
from context_svc import audit, job_rows
from context_svc.claims import Claim, claim_of, conclude
from context_svc.endings import EndCodec, Over, ending
from context_svc.errors import ApprovalMismatch, TurnNotWaiting
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Done, Later, Limits, Result, Then
from context_svc.journal import Draft, Entry, Journal, Kind, Publish
from context_svc.ledger import Spent
from context_svc.receipts import Tally
from context_svc.search import Indexing
from context_svc.turn_rows import Key, TurnState, locked_turn, remember, seen

KIND = "wait"
PATIENCE_US = 24 * 3600 * 1_000_000
WAIT_STAGE = 5
_SECOND = 1_000_000


class Ask(IntEnum):
    """What the person is asked for. The numbers are stored."""

    APPROVAL = 1
    ANSWER = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A call that waits. `digest` is what an approval is bound to, `form` the schema of an answer.

    `data` is the serialised PendingCall, `event` what the log tells of it, still without its end.
    """

    id: str
    ask: Ask
    digest: str
    form: str
    data: bytes
    event: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspended:
    """A run stopped on its way, at `resumption`; without `pending` it was given back."""

    pending: tuple[Pending, ...]
    resumption: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What the person answers: `answer` is the serialised PendingAnswer, still without what waited.

    `decision` is what the audit log tells of it; `faults` says what is wrong with the answer to a question with this
    form.
    """

    key: Key
    session_id: str
    turn_id: str
    ask: Ask
    id: str
    digest: str
    answer: bytes
    decision: str
    faults: Callable[[str], Sequence[Violation]]


class WaitCodec(EndCodec, Protocol):
    """Writes what waiting turns put into the log."""

    def asked(self, pending: Pending, expire_us: int) -> bytes:
        """A serialised ApprovalRequested or InputRequested."""

    def turn_suspended(self, approvals: Sequence[str], questions: Sequence[str], expire_us: int) -> bytes:
        """A serialised TurnSuspended."""

    def answered(self, pending: bytes, answer: bytes) -> bytes:
        """A serialised PendingAnswer."""

    def superseded(self) -> bytes:
        """The part of a serialised PendingAnswer that says that a newer message took its place."""

    def waited(self, receipt: bytes, span_us: int) -> bytes:
        """A serialised TurnReceipt with so much more time that the turn waited for the person."""

    def stopped_at(self, resumption: bytes, over: Over) -> Over:
        """The end of a turn that stopped there, with all that it had said and used."""


class Waiting:
    """The units of turns that wait."""

    def __init__(self, journal: Journal, codec: WaitCodec, indexing: Indexing | None = None) -> None:
        self._journal = journal
        self._codec = codec
        self._indexing = indexing

    def stop(self, claim: Claim, suspended: Suspended, tally: Tally) -> Stop:
        """Why a run lets go of its turn, for `Claims.hold`, with what it used so far."""
        receipt = self._codec.receipt(tally, b"")
        spent = self._codec.spent(receipt).beyond(self._codec.spent(claim.receipt))
        return Stop(waiting=self, suspended=suspended, receipt=receipt, spent=spent)

    def suspend(self, claim: Claim, suspended: Suspended, now_us: int) -> Unit[tuple[Entry, ...]]:
        """Part of a unit that holds the turn: store where it stopped, and ask."""
        expire_us = now_us + PATIENCE_US if suspended.pending else None
        yield Statement(
            "UPDATE turn SET state = :state, owner = NULL, resumption = :resumption, wait_expire_us = :expire"
            " WHERE id = :turn",
            {
                "state": TurnState.WAITING if suspended.pending else TurnState.QUEUED,
                "resumption": suspended.resumption,
                "expire": expire_us,
                "turn": claim.turn_id,
            },
        )
        if expire_us is None:
            return ()
        for place, pending in enumerate(suspended.pending):
            yield _insert(claim, place, pending)
        yield from job_rows.add(_expiry(claim, expire_us), now_us)
        drafts = self._questions(claim.turn_id, suspended.pending, expire_us)
        return (yield from self._journal.append(claim.session_id, drafts, now_us))

    def respond(self, reply: Reply, now_us: int) -> Unit[TurnState]:
        """Answer what a turn waits for; says where the turn stands then.

        Raises TurnNotFound, TurnNotWaiting, ApprovalMismatch, InvalidRequest and IdempotencyKeyReused.
        """
        turn = yield from locked_turn(reply.key.account_id, reply.session_id, reply.turn_id)
        if (yield from seen(reply.key)) is not None:
            return (yield from _answered_before(reply))
        if turn["state"] != TurnState.WAITING or turn["wait_expire_us"] <= now_us:
            raise TurnNotWaiting
        asked = yield from _find(reply, turn["attempt"])
        if reply.ask is Ask.APPROVAL and asked["digest"] != reply.digest:
            raise ApprovalMismatch
        if found := reply.faults(asked["form"]):
            raise InvalidRequest(violations=found)
        state = yield from self._answer(turn, asked, reply, now_us)
        yield from remember(reply.key, reply.session_id, reply.turn_id)
        line = audit.Entry(
            event=audit.Event.ACTION_ANSWERED,
            at_us=now_us,
            account=reply.key.account_id,
            subject=f"{reply.turn_id} {reply.id} {reply.decision}",
        )
        yield from audit.append(line)
        return state

    def supersede(self, turn: Row, now_us: int) -> Unit[None]:
        """A newer message takes the place of every open answer: the turn goes on without them."""
        rows = yield Statement(
            "SELECT * FROM pending WHERE turn_id = :turn AND answer IS NULL", {"turn": turn["id"]}
        )
        for row in rows:
            yield _keep(row, self._codec.answered(row["data"], self._codec.superseded()), None, None)
        yield self._queue(turn, now_us)

    def end(self, claim: Claim, over: Over, device_id: str, now_us: int) -> Unit[tuple[Entry, ...]]:
        """End a turn that nobody runs, with what it had said before it stopped."""
        over = self._codec.stopped_at(claim.resumption, over) if claim.resumption else over
        claim = replace(claim, receipt=self._waited(claim.receipt, claim.wait_expire_us, now_us))
        last = ending(self._codec, claim, over, device_id)
        entries = yield from self._journal.append(claim.session_id, [last.draft], now_us)
        yield from conclude(claim, last, entries[-1].sequence, now_us, self._indexing)
        return entries

    def _questions(self, turn_id: str, asked: Sequence[Pending], expire_us: int) -> list[Draft]:
        found = {ask: [each.id for each in asked if each.ask is ask] for ask in Ask}
        suspended = self._codec.turn_suspended(found[Ask.APPROVAL], found[Ask.ANSWER], expire_us)
        kinds = {Ask.APPROVAL: Kind.APPROVAL_REQUESTED, Ask.ANSWER: Kind.INPUT_REQUESTED}
        told = [(kinds[each.ask], self._codec.asked(each, expire_us)) for each in asked]
        return [
            Draft(kind=kind, turn_id=turn_id, payload=lambda _sequence, _time, payload=payload: payload)  # type: ignore[misc]
            for kind, payload in (*told, (Kind.TURN_SUSPENDED, suspended))
        ]

    def _answer(self, turn: Row, asked: Row, reply: Reply, now_us: int) -> Unit[TurnState]:
        answer = self._codec.answered(asked["data"], reply.answer)
        still = yield Statement(
            "SELECT 1 AS one FROM pending WHERE turn_id = :turn AND attempt = :attempt AND answer IS NULL"
            " AND id <> :id LIMIT 1",
            {"turn": turn["id"], "attempt": turn["attempt"], "id": asked["id"]},
        )
        state = TurnState.WAITING if still else TurnState.QUEUED
        yield _keep(asked, answer, state, reply.key.request_id)
        if not still:
            yield self._queue(turn, now_us)
        return state

    def _queue(self, turn: Row, now_us: int) -> Statement:
        receipt = self._waited(bytes(turn["receipt"] or b""), turn["wait_expire_us"], now_us)
        return Statement(
            "UPDATE turn SET state = 1, wait_expire_us = NULL, receipt = :receipt WHERE id = :turn AND state = 3",
            {"turn": turn["id"], "receipt": receipt},
        )

    def _waited(self, receipt: bytes, expire_us: int | None, now_us: int) -> bytes:
        """The receipt of a turn that waits no longer, since `PATIENCE_US` before its wait would have expired."""
        if expire_us is None:
            return receipt
        return self._codec.waited(receipt, max(0, now_us - (expire_us - PATIENCE_US)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """A run that stopped on its way: see `context_svc.claims.Holding`."""

    waiting: Waiting
    suspended: Suspended
    receipt: bytes
    spent: Spent

    def let_go(self, claim: Claim, now_us: int) -> Unit[tuple[Entry, ...]]:
        """Let the turn wait, or end it when somebody asked for that meanwhile."""
        if claim.cancel_device is None:
            return (yield from self.waiting.suspend(claim, self.suspended, now_us))
        stopped = replace(claim, resumption=self.suspended.resumption)
        return (yield from self.waiting.end(stopped, CANCELLED, claim.cancel_device, now_us))


CANCELLED = Over(state=TurnState.CANCELLED, message=b"", text="", usage=b"")
EXPIRED = Over(
    state=TurnState.FAILED,
    message=b"",
    text="",
    usage=b"",
    reason="WAIT_EXPIRED",
    explanation="Nobody answered in time.",
    retryable=True,
    stage=WAIT_STAGE,
)


class Expiry:
    """The kind of job that ends turns which waited for too long."""

    name = KIND
    limits = Limits(tries=0, seconds=30.0)

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        waiting: Waiting,
        publish: Publish,
        wake: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._waiting = waiting
        self._publish = publish
        self._wake = wake

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        now_us = self._clock.now_us()
        expire_us = await self._database.read(lambda: _expires(job.turn_id))
        if expire_us is None:
            return Done()
        if expire_us > now_us:
            return Later((expire_us - now_us) / _SECOND)
        return Done(lambda now_us: self._expire(job, now_us))

    def _expire(self, job: Job, now_us: int) -> Unit[Then | None]:
        rows = yield Statement("SELECT * FROM turn WHERE id = :turn AND state = 3", {"turn": job.turn_id})
        if not rows or rows[0]["wait_expire_us"] > now_us:
            return None
        turn = claim_of(rows[0])
        entries = yield from self._waiting.end(turn, EXPIRED, "", now_us)

        def then() -> None:
            self._publish(entries)
            self._wake(turn.session_id, turn.account_id)

        return then


def answers(claim: Claim) -> Unit[tuple[bytes, ...]]:
    """What the person answered before this run of the turn, each a serialised PendingAnswer, in order."""
    rows = yield Statement(
        "SELECT answer FROM pending WHERE turn_id = :turn AND attempt = :attempt AND answer IS NOT NULL"
        " ORDER BY place",
        {"turn": claim.turn_id, "attempt": claim.attempt - 1},
    )
    return tuple(bytes(row["answer"]) for row in rows)


def _expires(turn_id: str) -> Unit[int | None]:
    rows = yield Statement(
        "SELECT wait_expire_us FROM turn WHERE id = :turn AND state = 3", {"turn": turn_id}
    )
    return rows[0]["wait_expire_us"] if rows else None


def _find(reply: Reply, attempt: int) -> Unit[Row]:
    rows = yield Statement(
        "SELECT * FROM pending WHERE turn_id = :turn AND attempt = :attempt AND id = :id AND kind = :kind"
        " AND answer IS NULL",
        {"turn": reply.turn_id, "attempt": attempt, "id": reply.id, "kind": reply.ask},
    )
    if not rows:
        raise TurnNotWaiting
    return rows[0]


def _answered_before(reply: Reply) -> Unit[TurnState]:
    rows = yield Statement(
        "SELECT answer_state FROM pending WHERE turn_id = :turn AND request_id = :request",
        {"turn": reply.turn_id, "request": reply.key.request_id},
    )
    return TurnState(rows[0]["answer_state"])


def _keep(asked: Row, answer: bytes, state: TurnState | None, request_id: str | None) -> Statement:
    return Statement(
        "UPDATE pending SET answer = :answer, answer_state = :state, request_id = :request"
        " WHERE turn_id = :turn AND attempt = :attempt AND id = :id",
        {
            "answer": answer,
            "state": state,
            "request": request_id,
            "turn": asked["turn_id"],
            "attempt": asked["attempt"],
            "id": asked["id"],
        },
    )


def _insert(claim: Claim, place: int, pending: Pending) -> Statement:
    return Statement(
        "INSERT INTO pending (turn_id, id, attempt, place, kind, digest, form, data)"
        " VALUES (:turn, :id, :attempt, :place, :kind, :digest, :form, :data)",
        {
            "turn": claim.turn_id,
            "id": pending.id,
            "attempt": claim.attempt,
            "place": place,
            "kind": pending.ask,
            "digest": pending.digest,
            "form": pending.form,
            "data": pending.data,
        },
    )


def _expiry(claim: Claim, expire_us: int) -> NewJob:
    """Housekeeping of the mesh, so it names no account and stands in nobody's list."""
    return NewJob(
        id=ids.uuid(),
        kind=KIND,
        subject=f"{claim.turn_id} {claim.attempt}",
        session_id=claim.session_id,
        turn_id=claim.turn_id,
        run_us=expire_us,
    )
