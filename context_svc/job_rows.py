"""The job table: its rows as values, and the statements that add, claim, end and list them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from chassis.database import Engine, Row, Statement, Unit, Value
from context_svc.claims import database_now

KEPT_US = 7 * 86_400_000_000  # how long a job that is over stays in the list
_OVER = 1 << 62  # ranks of jobs that are over count down from here
_FIRST_OVER = 1 << 61


class JobState(IntEnum):
    """Where a job stands. The numbers are the contract's, and are stored."""

    SCHEDULED = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5
    IN_DOUBT = 6

    @property
    def over(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self >= JobState.DONE


class JobLost(Exception):
    """The job is not this owner's any more: stop, and write nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """Work for later. `subject` is what it is about: a kind has one open job for each.

    `run_us` is when it is due. `horizon_us` above 0 says that the time was counted from now on, and is never
    further away than that: after the clock was set back such a job is due at once.
    """

    id: str
    kind: str
    subject: str
    account_id: str = ""
    session_id: str | None = None
    turn_id: str = ""
    title: str = ""
    payload: bytes = b""
    run_us: int
    horizon_us: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A row. `attempts` counts how often it was begun, `failures` how often that failed; times are microseconds."""

    id: str
    kind: str
    subject: str
    account_id: str
    session_id: str | None
    turn_id: str
    title: str
    payload: bytes
    state: JobState
    attempts: int
    failures: int
    owner: str
    run_us: int
    rank: int
    reason: str
    create_us: int
    end_us: int | None


def add(new: NewJob, now_us: int) -> Unit[bool]:
    """Part of a unit: schedule a job; False when its subject has an open one already, which stays as it is."""
    rows = yield Statement(
        "INSERT INTO job (id, kind, subject, account_id, session_id, turn_id, title, payload, state, run_us,"
        " horizon_us, rank, create_us) VALUES (:id, :kind, :subject, :account, :session, :turn, :title,"
        " :payload, 1, :run, :horizon, :run, :now)"
        " ON CONFLICT (kind, subject) WHERE state < 3 DO NOTHING RETURNING id",
        {
            "id": new.id,
            "kind": new.kind,
            "subject": new.subject,
            "account": new.account_id,
            "session": new.session_id,
            "turn": new.turn_id,
            "title": new.title,
            "payload": new.payload,
            "run": new.run_us,
            "horizon": new.horizon_us,
            "now": now_us,
        },
    )
    return bool(rows)


def take(kinds: Sequence[str], owner: str, engine: Engine, now_us: int) -> Unit[Job | None]:
    """Claim the job of these kinds that is due longest."""
    now_us = yield from database_now(engine, now_us)
    names: dict[str, Value] = {f"k{index}": kind for index, kind in enumerate(kinds)}
    rows = yield Statement(
        "UPDATE job SET state = 2, attempts = attempts + 1, owner = :owner"  # noqa: S608 - names we made
        " WHERE state = 1 AND id = (SELECT id FROM job WHERE state = 1"
        " AND (run_us <= :now OR (horizon_us > 0 AND run_us > :now + horizon_us))"
        f" AND kind IN ({', '.join(f':{each}' for each in names)})"
        " ORDER BY run_us, id LIMIT 1) RETURNING *",
        {"owner": owner, "now": now_us, **names},
    )
    return from_row(rows[0]) if rows else None


def hold(job: Job) -> Unit[None]:
    """Part of a unit: lock the job's session and the job. Raises JobLost unless this claim still stands."""
    if job.session_id is not None:
        yield Statement("UPDATE session SET state = state WHERE id = :session", {"session": job.session_id})
    rows = yield Statement(
        "UPDATE job SET state = state WHERE id = :id AND state = 2 AND owner = :owner"
        " AND attempts = :attempts RETURNING id",
        {"id": job.id, "owner": job.owner, "attempts": job.attempts},
    )
    if not rows:
        raise JobLost(job.id)


def end(job: Job, state: JobState, reason: str, now_us: int) -> Unit[None]:
    """Part of a unit that holds the job: it is over. What was over for a week is forgotten."""
    yield Statement(
        "UPDATE job SET state = :state, reason = :reason, end_us = :now, rank = :rank, owner = NULL"
        " WHERE id = :id",
        {"state": state, "reason": reason, "now": now_us, "rank": _OVER - now_us, "id": job.id},
    )
    yield Statement(
        "DELETE FROM job WHERE account_id = :account AND rank > :old",
        {"account": job.account_id, "old": _OVER - now_us + KEPT_US},
    )


def put_back(job: Job, *, run_us: int, horizon_us: int, failures: int, reason: str = "") -> Unit[None]:
    """Part of a unit that holds the job: it runs again, at that time."""
    yield Statement(
        "UPDATE job SET state = 1, owner = NULL, run_us = :run, rank = :run, horizon_us = :horizon,"
        " failures = :failures, reason = :reason WHERE id = :id",
        {"run": run_us, "horizon": horizon_us, "failures": failures, "reason": reason, "id": job.id},
    )


def postpone(job_id: str, run_us: int) -> Unit[None]:
    """Part of a unit that put the job back: let it wait until then, or until it is woken."""
    yield Statement(
        "UPDATE job SET run_us = :run, rank = :run, horizon_us = 0 WHERE id = :id AND state = 1",
        {"run": run_us, "id": job_id},
    )


def count_tries(job_id: str, tries: int) -> Unit[None]:
    """Part of a unit that ended the job: how often its work was tried, whatever its claims."""
    yield Statement("UPDATE job SET attempts = :tries WHERE id = :id", {"tries": tries, "id": job_id})


def lock(account: str, job_id: str) -> Unit[Job | None]:
    """Part of a unit: the job if it is this person's, held until the commit, and its session before it."""
    yield Statement(
        "UPDATE session SET state = state WHERE id = (SELECT session_id FROM job WHERE id = :id)",
        {"id": job_id},
    )
    rows = yield Statement(
        "UPDATE job SET state = state WHERE id = :id AND account_id = :account RETURNING *",
        {"id": job_id, "account": account},
    )
    return from_row(rows[0]) if rows else None


def cancel(account: str, job_id: str, now_us: int) -> Unit[Job | None]:
    """Cancel an open job of this person; one that is over stays as it is. None: there is no such job."""
    yield Statement(
        "UPDATE job SET state = 5, end_us = :now, rank = :rank, owner = NULL"
        " WHERE id = :id AND account_id = :account AND state < 3",
        {"id": job_id, "account": account, "now": now_us, "rank": _OVER - now_us},
    )
    rows = yield Statement(
        "SELECT * FROM job WHERE id = :id AND account_id = :account", {"id": job_id, "account": account}
    )
    return from_row(rows[0]) if rows else None


def orphans(engine: Engine, now_us: int) -> Unit[tuple[Job, ...]]:
    """Running jobs whose owner is dead, at most 100."""
    now_us = yield from database_now(engine, now_us)
    rows = yield Statement(
        "SELECT j.* FROM job j LEFT JOIN owner o ON o.id = j.owner"
        " WHERE j.state = 2 AND (o.id IS NULL OR o.expire_us < :now) LIMIT 100",
        {"now": now_us},
    )
    return tuple(from_row(row) for row in rows)


def page(account: str, after: Sequence[str | int] | None, limit: int, open_only: bool) -> Unit[list[Job]]:
    """Next to run first, then those that are over, newest first; from behind `after` = (rank, id)."""
    behind = " AND (rank, id) > (:after_rank, :after_id)" if after else ""
    bounds = {"after_rank": after[0], "after_id": after[1]} if after else {}
    rows = yield Statement(
        f"SELECT * FROM job WHERE account_id = :account AND rank < :most{behind}"  # noqa: S608 - constant pieces
        " ORDER BY rank, id LIMIT :limit",
        {"account": account, "most": _FIRST_OVER if open_only else _OVER, "limit": limit, **bounds},
    )
    return [from_row(row) for row in rows]


def from_row(row: Row) -> Job:
    """A row of ``SELECT *`` or ``RETURNING *``."""
    return Job(
        id=row["id"],
        kind=row["kind"],
        subject=row["subject"],
        account_id=row["account_id"],
        session_id=row["session_id"],
        turn_id=row["turn_id"],
        title=row["title"],
        payload=bytes(row["payload"]),
        state=JobState(row["state"]),
        attempts=row["attempts"],
        failures=row["failures"],
        owner=row["owner"] or "",
        run_us=row["run_us"],
        rank=row["rank"],
        reason=row["reason"],
        create_us=row["create_us"],
        end_us=row["end_us"],
    )
