"""What comes of itself is shown at once, and a stream that is cut is taken up where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from rich.console import Console

from assistant.chat.v1 import chat_pb2
from assistant.reminder.v1 import reminder_pb2
from chassis.tasks import Tasks
from chassis.testing import FakeClock, eventually
from mesh import answer, wire
from mesh.errors import CallFailed
from mesh.notices import announce


class Door:
    """Tells one thing for each stream, and then breaks."""

    def __init__(self, *bodies: answer.Body) -> None:
        self._bodies = list(bodies)
        self.began: list[dict[str, int]] = []

    async def notices(self, seen: dict[str, int]) -> AsyncIterator[answer.Event]:
        self.began.append(dict(seen))
        if not self._bodies:
            await asyncio.Event().wait()
        seen["s"] = len(self.began)
        yield answer.Event(sequence=seen["s"], turn="", body=self._bodies.pop(0))
        raise CallFailed("Cut.", "", reason=None, passing=True)


@pytest.mark.requirement("TOOL-5", "AGT-9")
async def test_reminders_and_ends_of_jobs_are_shown_as_they_come() -> None:
    console, clock = Console(record=True, width=80), FakeClock()
    door = Door(answer.Reminded(text="Call mum", late=True), answer.JobEnded(message="Hold on: done."))
    async with Tasks() as tasks:
        tasks.spawn("announce", announce(door, console, clock))
        for _ in range(2):
            await clock.asleep()
            await clock.advance(timedelta(seconds=3))
        await eventually(lambda: len(door.began) == 3)
    assert console.export_text().splitlines() == ["⏰ Call mum (late)", "• Hold on: done."]
    assert door.began == [{}, {"s": 1}, {"s": 2}]


def test_events_that_come_of_themselves_are_read() -> None:
    due = chat_pb2.ChatEvent(reminder_due=chat_pb2.ReminderDue(text="Call mum", late=True))
    assert wire.event(due, documented=False).body == answer.Reminded(text="Call mum", late=True)
    ended = chat_pb2.ChatEvent(job_finished=chat_pb2.JobFinished(message="Over."))
    assert wire.event(ended, documented=False).body == answer.JobEnded(message="Over.")


def test_a_reminder_is_listed_in_the_time_that_the_person_had_in_mind() -> None:
    told = reminder_pb2.Reminder(
        id="r", text="Call mum", time_zone="Asia/Tokyo", state=reminder_pb2.REMINDER_STATE_FIRED, late=True
    )
    told.due_time.FromJsonString("2027-03-04T09:00:00Z")
    line = wire.reminder(told)
    assert (line.due, line.state) == ("2027-03-04 18:00 Asia/Tokyo", "fired, late")
