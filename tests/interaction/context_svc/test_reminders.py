"""Reminders: they fire once at their time, on one replica, after a restart too, and say when they come late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.reminder.v1 import reminder_pb2 as pb
from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.status import from_rpc_error
from chassis.testing import FakeClock
from context_svc import moments
from tests.interaction.context_svc.conversation_room import Room, kinds, room
from tests.interaction.context_svc.test_owners import expire_owners
from tests.interaction.context_svc.test_waiting import _now, one

START = datetime(2027, 3, 3, 10, 30, tzinfo=UTC)  # a Wednesday
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PostgreSQL go by the test's clock too, where jobs are claimed."""
    monkeypatch.setattr("context_svc.job_rows.database_now", _now)
    monkeypatch.setattr("context_svc.claims.database_now", _now)
    monkeypatch.setattr(
        "context_svc.claims.LEASE_US", 86_400_000_000
    )  # the clock may outrun a store that is busy


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(start_us=round(START.timestamp() * 1e6))


def wanted(due: datetime, **fields: Any) -> pb.CreateReminderRequest:
    request = pb.CreateReminderRequest(**{"request_id": ids.uuid(), "text": "Call mum", **fields})
    request.due_time.FromDatetime(due)
    return request


async def refused(here: Room, request: pb.CreateReminderRequest) -> str | None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.reminders.CreateReminder(request, timeout=30)
    return from_rpc_error(caught.value).reason


async def listed(here: Room, **fields: Any) -> list[pb.Reminder]:
    return list((await here.reminders.ListReminders(pb.ListRemindersRequest(**fields), timeout=30)).reminders)


async def pass_time(here: Room, clock: FakeClock, session: str) -> list[chat_pb2.ChatEvent]:
    """Let seconds pass until the session's log has a reminder; at most twenty, each as long as the store needs."""
    for _ in range(20):
        log = await here.log(session)
        if "reminder_due" in kinds(log):
            return log
        await settle(here, clock)
    return log


async def settle(here: Room, clock: FakeClock) -> None:
    """A second passes, and whoever woke has the time to go through the store."""
    await clock.asleep()
    await clock.advance(SECOND)
    for _ in range(5):
        await here.database.read(_nothing)
        await clock.asleep(2)


def _nothing() -> Unit[None]:
    yield Statement("SELECT 1 AS one")


@pytest.mark.requirement("TOOL-5", "AGT-9")
async def test_a_reminder_fires_once_at_its_time(database: Database, clock: FakeClock) -> None:
    async with room(database, background=True, clock=clock) as here:
        session = await here.session()
        request = wanted(START + 10 * MINUTE, session_id=session, time_zone="Europe/Paris")
        first = (await here.reminders.CreateReminder(request, timeout=30)).reminder
        again = (await here.reminders.CreateReminder(request, timeout=30)).reminder
        assert first == again
        (job,) = [
            j
            for j in (await here.agent.ListJobs(agent_pb2.ListJobsRequest(), timeout=30)).jobs
            if j.kind == "reminder"
        ]
        assert (job.title, job.run_time) == ("Call mum", request.due_time)
        await clock.advance(9 * MINUTE)
        assert "reminder_due" not in kinds(await here.log(session))
        await clock.advance(MINUTE)
        due = one(await pass_time(here, clock, session), "reminder_due").reminder_due
        assert (due.reminder_id, due.text, due.late) == (first.id, "Call mum", False)
        (fired,) = await listed(here)
        assert (fired.state, fired.late) == (pb.REMINDER_STATE_FIRED, False)
        await clock.advance(MINUTE)
        assert kinds(await here.log(session)).count("reminder_due") == 1
        request.text = "Call dad"
        assert await refused(here, request) == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.requirement("TOOL-5", "AGT-9")
async def test_one_that_was_due_while_the_mesh_was_down_comes_late_and_once(
    database: Database, clock: FakeClock
) -> None:
    async with room(database, background=True, clock=clock, owner="one") as here:
        session = await here.session()
        await here.reminders.CreateReminder(wanted(START + MINUTE, session_id=session), timeout=30)
    clock.jump(timedelta(hours=2))
    await database.write("owner", expire_owners)
    async with (
        room(database, background=True, clock=clock, owner="two") as here,
        room(database, background=True, clock=clock, owner="three"),
    ):
        due = one(await pass_time(here, clock, session), "reminder_due").reminder_due
        assert due.late
        await clock.advance(5 * SECOND)
        assert kinds(await here.log(session)).count("reminder_due") == 1


@pytest.mark.requirement("TOOL-5")
async def test_without_its_session_it_comes_in_the_newest_or_in_one_of_its_own(
    database: Database, clock: FakeClock
) -> None:
    async with room(database, background=True, clock=clock) as here:
        gone = await here.session()
        await here.reminders.CreateReminder(wanted(START + MINUTE, session_id=gone), timeout=30)
        await database.write(gone, lambda: _delete(gone))
        await clock.advance(2 * MINUTE)
        for _ in range(10):
            if (await listed(here))[0].state == pb.REMINDER_STATE_FIRED:
                break
            await settle(here, clock)
        (fired,) = await listed(here)
        assert "reminder_due" in kinds(await here.log(fired.session_id))


@pytest.mark.requirement("AGT-9")
@pytest.mark.parametrize("through_job", [True, False])
async def test_one_that_was_taken_back_does_not_fire(
    database: Database, clock: FakeClock, through_job: bool
) -> None:
    async with room(database, background=True, clock=clock) as here:
        session = await here.session()
        made = (
            await here.reminders.CreateReminder(wanted(START + MINUTE, session_id=session), timeout=30)
        ).reminder
        if through_job:
            await here.agent.CancelJob(agent_pb2.CancelJobRequest(job_id=made.id), timeout=30)
        else:
            await here.reminders.DeleteReminder(pb.DeleteReminderRequest(reminder_id=made.id), timeout=30)
        assert await listed(here) == []
        await clock.advance(2 * MINUTE)
        assert "reminder_due" not in kinds(await here.log(session))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await here.reminders.DeleteReminder(pb.DeleteReminderRequest(reminder_id=made.id), timeout=30)
        assert from_rpc_error(caught.value).reason == "REMINDER_NOT_FOUND"
        missing = pb.DeleteReminderRequest(reminder_id=made.id, allow_missing=True)
        await here.reminders.DeleteReminder(missing, timeout=30)


async def test_reminders_come_in_pages_by_due_time(database: Database, clock: FakeClock) -> None:
    async with room(database, clock=clock) as here:
        for minutes in (3, 1, 2):
            await here.reminders.CreateReminder(
                wanted(START + minutes * MINUTE, text=f"in {minutes}"), timeout=20
            )
        first = await here.reminders.ListReminders(pb.ListRemindersRequest(page_size=2), timeout=30)
        rest = await listed(here, page_size=2, page_token=first.next_page_token)
        assert [each.text for each in (*first.reminders, *rest)] == ["in 1", "in 2", "in 3"]
        assert await refused(here, wanted(START + timedelta(days=4_000))) == "INVALID_FIELD"
        assert await refused(here, wanted(START, session_id=ids.uuid())) == "SESSION_NOT_FOUND"
        foreign = await here.session(account="account-2")
        assert await refused(here, wanted(START, session_id=foreign)) == "SESSION_NOT_FOUND"


@pytest.mark.requirement("TOOL-5")
@pytest.mark.parametrize(
    ("said", "when"),
    [
        ("in 20 minutes", "03-03 11:50"),
        ("in half an hour", "03-03 12:00"),
        ("in an hour and 20 minutes", "03-03 12:50"),
        ("tomorrow at six", "03-04 18:00"),
        ("tomorrow at 06:00", "03-04 06:00"),
        ("day after tomorrow at noon", "03-05 12:00"),
        ("friday 9 am", "03-05 09:00"),
        ("wednesday", "03-10 09:00"),
        ("6pm", "03-03 18:00"),
        ("9:15", "03-04 09:15"),
        ("tonight at 9", "03-03 21:00"),
        ("at 9 in the evening", "03-03 21:00"),
        ("2027-12-24", "12-24 09:00"),
        ("2027-12-24T18:00:00Z", "12-24 19:00"),
        ("in 26 days at 9:00", "03-29 09:00"),  # the clocks have changed by then
        ("whenever", None),
        ("tomorrow at 26", None),
        ("in 2 hours at noon", None),
        ("", None),
    ],
)
def test_a_time_is_counted_in_the_persons_zone(said: str, when: str | None) -> None:
    now_us = round(START.timestamp() * 1e6)  # 11:30 in Paris
    if when is None:
        with pytest.raises(moments.Unclear):
            moments.moment(said, now_us, "Europe/Paris")
        return
    found = datetime.fromtimestamp(moments.moment(said, now_us, "Europe/Paris") / 1e6, UTC)
    assert found.astimezone(moments.zone("Europe/Paris")).strftime("%m-%d %H:%M") == when


def _delete(session: str) -> Unit[None]:
    yield Statement("DELETE FROM session WHERE id = :id", {"id": session})
