"""The reminder table: its rows as values, and the statements that add, fire, list and delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from chassis.database import Row, Statement, Unit
from context_svc import job_rows
from context_svc.errors import IdempotencyKeyReused, QuotaExceeded
from context_svc.job_rows import NewJob

KIND = "reminder"
MOST = 1_000  # scheduled ones of a person
LATE_US = 60_000_000


class ReminderState(IntEnum):
    """Where a reminder stands. The numbers are the contract's, and are stored."""

    SCHEDULED = 1
    FIRED = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Reminder:
    """A row. `session_id` is empty for the person's most recent session; times are microseconds since 1970."""

    id: str
    account_id: str
    session_id: str
    turn_id: str
    text: str
    due_us: int
    time_zone: str
    create_us: int
    state: ReminderState = ReminderState.SCHEDULED
    fire_us: int | None = None
    late: bool = False


def add(new: Reminder, request_id: str, body_hash: str) -> Unit[Reminder]:
    """Part of a unit: store a reminder with the job that keeps its time, or find the one of this request.

    Raises IdempotencyKeyReused and QuotaExceeded.
    """
    yield Statement("UPDATE account SET version = version WHERE id = :account", {"account": new.account_id})
    rows = yield Statement(
        "SELECT * FROM reminder WHERE account_id = :account AND request_id = :request",
        {"account": new.account_id, "request": request_id},
    )
    if rows:
        if rows[0]["body_hash"] != body_hash:
            raise IdempotencyKeyReused
        return from_row(rows[0])
    count = yield Statement(
        "SELECT count(*) AS n FROM reminder WHERE account_id = :account AND state = 1",
        {"account": new.account_id},
    )
    if count[0]["n"] >= MOST:
        raise QuotaExceeded(quota="scheduled reminders")
    yield Statement(
        "INSERT INTO reminder (id, account_id, request_id, body_hash, session_id, turn_id, text, due_us,"
        " time_zone, create_us) VALUES (:id, :account, :request, :hash, :session, :turn, :text, :due, :zone,"
        " :now)",
        {
            "id": new.id,
            "account": new.account_id,
            "request": request_id,
            "hash": body_hash,
            "session": new.session_id or None,
            "turn": new.turn_id,
            "text": new.text,
            "due": new.due_us,
            "zone": new.time_zone,
            "now": new.create_us,
        },
    )
    job = NewJob(
        id=new.id,
        kind=KIND,
        subject=new.id,
        account_id=new.account_id,
        turn_id=new.turn_id,
        title=new.text[:200],
        run_us=new.due_us,
    )
    yield from job_rows.add(job, new.create_us)
    return new


def fire(reminder_id: str, session_id: str, now_us: int) -> Unit[Reminder | None]:
    """Part of a unit: the reminder's time has come; None when it is gone or has fired."""
    rows = yield Statement(
        "UPDATE reminder SET state = 2, fire_us = :now, session_id = :session,"
        " late = CASE WHEN :now - due_us > :late THEN 1 ELSE 0 END"
        " WHERE id = :id AND state = 1 RETURNING *",
        {"now": now_us, "session": session_id, "late": LATE_US, "id": reminder_id},
    )
    return from_row(rows[0]) if rows else None


def delete(account_id: str, reminder_id: str, now_us: int) -> Unit[Reminder | None]:
    """Part of a unit: take a reminder away, with its job while that is open. None: there is no such reminder."""
    yield from job_rows.cancel(account_id, reminder_id, now_us)
    rows = yield Statement(
        "DELETE FROM reminder WHERE id = :id AND account_id = :account RETURNING *",
        {"id": reminder_id, "account": account_id},
    )
    return from_row(rows[0]) if rows else None


def find(reminder_id: str) -> Unit[Reminder | None]:
    """The reminder of that id, whosever it is."""
    rows = yield Statement("SELECT * FROM reminder WHERE id = :id", {"id": reminder_id})
    return from_row(rows[0]) if rows else None


def all_of(account_id: str) -> Unit[list[Reminder]]:
    """Every reminder of a person, by due time."""
    rows = yield Statement(
        "SELECT * FROM reminder WHERE account_id = :account ORDER BY due_us, id", {"account": account_id}
    )
    return [from_row(row) for row in rows]


def page(
    account_id: str, after: Sequence[str | int] | None, limit: int, *, state: int, session_id: str
) -> Unit[list[Reminder]]:
    """By due time, from behind `after` = (due_us, id)."""
    behind = " AND (due_us, id) > (:after_us, :after_id)" if after else ""
    standing = " AND state = :state" if state else ""
    within = " AND session_id = :session" if session_id else ""
    rows = yield Statement(
        f"SELECT * FROM reminder WHERE account_id = :account{behind}{standing}{within}"  # noqa: S608 - constant pieces
        " ORDER BY due_us, id LIMIT :limit",
        {
            "account": account_id,
            "limit": limit,
            **({"after_us": after[0], "after_id": after[1]} if after else {}),
            **({"state": state} if state else {}),
            **({"session": session_id} if session_id else {}),
        },
    )
    return [from_row(row) for row in rows]


def from_row(row: Row) -> Reminder:
    """A row of ``SELECT *`` or ``RETURNING *``."""
    return Reminder(
        id=row["id"],
        account_id=row["account_id"],
        session_id=row["session_id"] or "",
        turn_id=row["turn_id"],
        text=row["text"],
        due_us=row["due_us"],
        time_zone=row["time_zone"],
        create_us=row["create_us"],
        state=ReminderState(row["state"]),
        fire_us=row["fire_us"],
        late=bool(row["late"]),
    )
