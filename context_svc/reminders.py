"""Reminders: made by a person or by an action, fired once at their time into the log of a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis import ids
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.errors import InvalidRequest, Violation
from context_svc import reminder_rows as rows
from context_svc import session_rows as sessions
from context_svc.errors import ReminderNotFound, SessionEnded, SessionNotFound, SessionSealed
from context_svc.item_rows import Selection, live
from context_svc.items import DEVICE_PREFIX, Item, Scope
from context_svc.job_rows import Job
from context_svc.jobs import Done, Limits, Result, Then
from context_svc.journal import Draft, Journal, Kind, Publish
from context_svc.paging import PageTokens, Query, page_size
from context_svc.reminder_rows import Reminder, ReminderState
from context_svc.session_rows import SessionState

FARTHEST_US = 3_653 * 86_400_000_000  # ten years
TITLE = "Reminders"  # of the session that is made when a person has none


class ReminderCodec(Protocol):
    """Writes what reminders put into the log."""

    def reminder_due(self, reminder: Reminder) -> bytes:
        """A serialised ReminderDue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A reminder to make. `request_id` names it for its account; an empty zone is that of the person's device."""

    request_id: str
    body_hash: str
    text: str
    due_us: int
    time_zone: str = ""
    session_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReminderPage:
    """A page; `next_token` is empty at the end."""

    reminders: Sequence[Reminder]
    next_token: str


class Reminders:
    """What a person does with their reminders. `zone_of` names the time zone that context items tell."""

    def __init__(
        self, database: Database, clock: Clock, pages: PageTokens, zone_of: Callable[[Sequence[Item]], str]
    ) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages
        self._zone_of = zone_of

    async def create(self, user: User, wanted: Wanted) -> Reminder:
        """Make one, or find the one that this request made.

        Raises InvalidRequest (too far ahead), IdempotencyKeyReused, QuotaExceeded, SessionNotFound, SessionEnded
        and SessionSealed.
        """
        now_us = self._clock.now_us()
        return await self._database.write(
            wanted.session_id or user.account, lambda: self._create(user, wanted, now_us)
        )

    async def list_page(
        self, user: User, *, size: int, token: str, state: int, session_id: str
    ) -> ReminderPage:
        """By due time, the next one first. Raises PageTokenInvalid."""
        query = Query(account=user.account, name="reminders", filters={"state": state, "session": session_id})
        after = self._pages.read(query, token, (int, str))
        limit = page_size(size)
        found = await self._database.read(
            lambda: rows.page(user.account, after, limit + 1, state=state, session_id=session_id)
        )
        shown = found[:limit]
        more = len(found) > limit
        return ReminderPage(
            reminders=shown,
            next_token=self._pages.issue(query, (shown[-1].due_us, shown[-1].id)) if more else "",
        )

    async def delete(self, user: User, reminder_id: str, *, allow_missing: bool) -> None:
        """Take one away; it does not fire any more. Raises ReminderNotFound."""
        now_us = self._clock.now_us()
        gone = await self._database.write(reminder_id, lambda: rows.delete(user.account, reminder_id, now_us))
        if gone is None and not allow_missing:
            raise ReminderNotFound

    def _create(self, user: User, wanted: Wanted, now_us: int) -> Unit[Reminder]:
        _near(wanted.due_us, now_us)
        if wanted.session_id:
            session = yield from sessions.lock(wanted.session_id, user.account)
            if session is None:
                raise SessionNotFound
            if session.sealed:
                raise SessionSealed
            if session.state is SessionState.ENDED:
                raise SessionEnded
        zone = wanted.time_zone
        if not zone:
            scope = Scope(account_id=user.account)
            zone = self._zone_of((yield from live(scope, Selection(prefix=DEVICE_PREFIX), now_us)))
        new = Reminder(
            id=ids.uuid(),
            account_id=user.account,
            session_id=wanted.session_id,
            turn_id="",
            text=wanted.text,
            due_us=wanted.due_us,
            time_zone=zone,
            create_us=now_us,
        )
        return (yield from rows.add(new, wanted.request_id, wanted.body_hash))


class Alarm:
    """The kind of job that keeps a reminder's time: it fires once, on one replica, late rather than never."""

    name = rows.KIND
    limits = Limits(tries=0, seconds=30.0)

    def __init__(self, journal: Journal, codec: ReminderCodec, publish: Publish) -> None:
        self._journal = journal
        self._codec = codec
        self._publish = publish

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        return Done(lambda now_us: self._fire(job, now_us))

    def cancelled(self, job: Job, _now_us: int) -> Unit[None]:
        """Part of the unit that cancels the job: the reminder goes with it."""
        yield Statement(
            "DELETE FROM reminder WHERE id = :id AND account_id = :account AND state = 1",
            {"id": job.subject, "account": job.account_id},
        )

    def _fire(self, job: Job, now_us: int) -> Unit[Then | None]:
        reminder = yield from rows.find(job.subject)
        if reminder is None or reminder.state is ReminderState.FIRED:
            return None
        session = yield from _place(reminder, now_us)
        fired = yield from rows.fire(reminder.id, session, now_us)
        if fired is None:
            return None
        payload = self._codec.reminder_due(fired)
        draft = Draft(kind=Kind.REMINDER_DUE, turn_id="", payload=lambda _sequence, _time: payload)
        entries = yield from self._journal.append(session, [draft], now_us)
        return lambda: self._publish(entries)


def _place(reminder: Reminder, now_us: int) -> Unit[str]:
    """The session to appear in: its own while that is open, else the most recent one, else a new one."""
    found = yield Statement(
        "SELECT id FROM session WHERE account_id = :account AND end_us IS NULL AND sealed = 0"
        " ORDER BY CASE WHEN id = :own THEN 0 ELSE 1 END, update_us DESC, id LIMIT 1",
        {"account": reminder.account_id, "own": reminder.session_id},
    )
    if found:
        return str(found[0]["id"])
    new = ids.uuid()
    yield from sessions.insert(
        new,
        account=reminder.account_id,
        sign_in="",
        title=TITLE,
        settings=b"",
        private=False,
        shape="",
        now_us=now_us,
    )
    yield Statement(
        "UPDATE account SET session_count = session_count + 1 WHERE id = :account",
        {"account": reminder.account_id},
    )
    return new


def _near(due_us: int, now_us: int) -> None:
    if due_us > now_us + FARTHEST_US:
        description = "must be at most ten years ahead"
        raise InvalidRequest(
            violations=[Violation(field="due_time", description=description, rule="reminder.due")]
        )
