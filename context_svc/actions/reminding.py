"""set_reminder, list_reminders and cancel_reminder."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from chassis import ids
from chassis.clock import Clock
from chassis.database import Statement, Unit
from context_svc import moments, reminder_rows
from context_svc.errors import ReminderNotFound
from context_svc.hosting import Act, Asked, Told, refused, text
from context_svc.memories import StaysHere
from context_svc.reminder_rows import Reminder, ReminderState
from context_svc.reminders import FARTHEST_US

LONGEST = 2_000
SHOWN = 50


class SetReminder:
    """Makes a reminder that appears in this session. Code reads the time, in the person's zone."""

    name = "set_reminder"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`. Raises ArgumentsInvalid."""
        what, when, now_us = text(asked, "text"), text(asked, "time"), self._clock.now_us()
        if len(what) > LONGEST:
            raise refused("text", f"must have at most {LONGEST} characters")
        try:
            due_us = moments.moment(when, now_us, asked.zone)
        except moments.Unclear as error:
            raise refused(
                "time", 'is not clear: say it like "tomorrow at 18:00" or "in 20 minutes"'
            ) from error
        if not now_us < due_us <= now_us + FARTHEST_US:
            raise refused("time", "must be in the coming ten years")
        return lambda at_us: self._set(asked, what, due_us, at_us)

    def _set(self, asked: Asked, what: str, due_us: int, now_us: int) -> Unit[Told]:
        claim, id = asked.claim, ids.uuid()
        new = Reminder(
            id=id,
            account_id=claim.account_id,
            session_id=claim.session_id,
            turn_id=claim.turn_id,
            text=what,
            due_us=due_us,
            time_zone=asked.zone,
            create_us=now_us,
        )
        made = yield from reminder_rows.add(new, id, "")
        return Told(content=f"I will remind you: {told(made)}.", job_ids=(made.id,))


class ListReminders:
    """Lists what is still to come, the next one first."""

    name = "list_reminders"

    def __init__(self, stays_here: StaysHere) -> None:
        self._stays_here = stays_here

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`."""
        return lambda _now_us: self._list(asked)

    def _list(self, asked: Asked) -> Unit[Told]:
        found = yield from scheduled(asked, self._stays_here)
        lines = [f"- {told(each)}" for each in found[:SHOWN]]
        return Told(content="\n".join(lines) or "There are no reminders.")


class CancelReminder:
    """Takes back the reminder of that id, or the only one whose text has these words."""

    name = "cancel_reminder"

    def __init__(self, stays_here: StaysHere) -> None:
        self._stays_here = stays_here

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`. Raises ArgumentsInvalid and ReminderNotFound."""
        wanted = text(asked, "reminder")
        return lambda now_us: self._cancel(asked, wanted, now_us)

    def _cancel(self, asked: Asked, wanted: str, now_us: int) -> Unit[Told]:
        found = yield from scheduled(asked, self._stays_here)
        fitting = [each for each in found if wanted == each.id] or _named(found, wanted)
        if not fitting:
            raise ReminderNotFound
        if len(fitting) > 1:
            several = "; ".join(map(told, fitting[:5]))
            raise refused("reminder", f"fits several: {several}")
        gone = yield from reminder_rows.delete(asked.claim.account_id, fitting[0].id, now_us)
        return Told(content=f"Taken back: {told(gone or fitting[0])}.")


def told(reminder: Reminder) -> str:
    """A reminder in words, its time in the zone it was made in."""
    here = moments.zone(reminder.time_zone)
    due = datetime.fromtimestamp(reminder.due_us / 1e6, UTC).astimezone(here)
    return f"{reminder.text}, on {due:%A} {due:%Y-%m-%d} at {due:%H:%M} ({here.key}), id {reminder.id}"


def scheduled(asked: Asked, stays_here: StaysHere) -> Unit[list[Reminder]]:
    """What is still to come, without what another conversation keeps on these machines."""
    found = yield from reminder_rows.page(
        asked.claim.account_id, None, reminder_rows.MOST, state=int(ReminderState.SCHEDULED), session_id=""
    )
    hidden = set()
    for session in {each.session_id for each in found} - {"", asked.claim.session_id}:
        rows = yield Statement("SELECT settings FROM session WHERE id = :id", {"id": session})
        if rows and stays_here(bytes(rows[0]["settings"] or b""), ()):
            hidden.add(session)
    return [each for each in found if each.session_id not in hidden]


def _named(found: Iterable[Reminder], wanted: str) -> list[Reminder]:
    words = wanted.casefold().split()
    return [each for each in found if all(word in each.text.casefold() for word in words)]
