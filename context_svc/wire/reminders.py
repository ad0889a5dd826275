"""ReminderService's messages. Pure."""

from __future__ import annotations

from hashlib import sha256

from assistant.reminder.v1 import reminder_pb2 as pb
from context_svc.reminder_rows import Reminder
from context_svc.reminders import ReminderPage, Wanted
from context_svc.wire.times import timestamp, timestamp_or_none


def wanted(request: pb.CreateReminderRequest) -> Wanted:
    """A reminder to make."""
    asked = pb.CreateReminderRequest()
    asked.CopyFrom(request)
    asked.ClearField("request_id")
    return Wanted(
        request_id=request.request_id,
        body_hash=sha256(asked.SerializeToString(deterministic=True)).hexdigest(),
        text=request.text,
        due_us=request.due_time.ToMicroseconds(),
        time_zone=request.time_zone,
        session_id=request.session_id,
    )


def reminder(row: Reminder) -> pb.Reminder:
    """A reminder as its person sees it."""
    return pb.Reminder(
        id=row.id,
        text=row.text,
        due_time=timestamp(row.due_us),
        time_zone=row.time_zone,
        session_id=row.session_id,
        turn_id=row.turn_id,
        state=pb.ReminderState.ValueType(int(row.state)),
        fire_time=timestamp_or_none(row.fire_us),
        late=row.late,
        create_time=timestamp(row.create_us),
    )


def page(value: ReminderPage) -> pb.ListRemindersResponse:
    """A page of reminders."""
    return pb.ListRemindersResponse(
        reminders=map(reminder, value.reminders), next_page_token=value.next_token
    )
