"""Rooms that are alive and do nothing: a stalled owner that wakes up changes nothing, a frozen room ends its turns."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest

from chassis.tasks import Tasks
from tests.robustness.checker import Event, faults
from tests.robustness.client import Device, Told, device
from tests.robustness.mesh import machine
from tests.robustness.table import tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = "stream 3000 tokens 20 ms apart"
BOUND = 35.0  # seconds


async def until(phone: Device, session: str, kind: str, within: float = 60) -> Event:
    """The first event of a kind."""
    async with asyncio.timeout(within):
        while True:
            for event in await phone.log(session):
                if kind in event:
                    return event
            await asyncio.sleep(0.1)


@pytest.mark.requirement("CHAT-4", "OPS-4")
@pytest.mark.usefixtures("only_long")
async def test_an_owner_that_stalls_and_wakes_up_changes_nothing(postgres_url: str) -> None:
    schema = {"CONTEXT_DATABASE_SCHEMA": f"own{uuid.uuid4().hex[:8]}"}
    async with machine("context", "orchestrator", "llm", database=postgres_url, **schema) as here:
        await here.start("context", "second")
        async with device(here.context(), here.operator()) as phone, device(here.context("second")) as tablet:
            session, told = await phone.new_session(), Told()
            await phone.say(session, LONG, told)
            await phone.say(session, "and then this", told)
            await until(phone, session, "textDelta")
            here.running["context"].freeze()
            failed = await until(tablet, session, "turnFailed")
            await until(tablet, session, "turnFinished")  # the other turn began on the other replica
            before = await tablet.log(session)
            here.running["context"].thaw()
            await phone.new_session()  # it works again, and wrote what it wanted to
            await phone.settled(session)
            after = await phone.log(session)
            found = faults(await phone.history(session, told))
    assert failed["turnFailed"]["reason"] == "ERROR_REASON_OWNER_LOST"
    assert failed["turnFailed"]["retryable"]
    assert [event["sequence"] for event in after if "turnFinished" in event or "turnFailed" in event] == [
        event["sequence"] for event in before if "turnFinished" in event or "turnFailed" in event
    ]
    tell("stalled owners", f"1 frozen in mid-turn and thawed, {len(after)} events", len(found))
    assert not found


@pytest.mark.requirement("CHAT-15")
@pytest.mark.usefixtures("only_long")
async def test_a_frozen_room_ends_its_turns_in_time_and_the_rest_goes_on() -> None:
    async with Tasks() as tasks:
        runs = [tasks.spawn("freeze", frozen(room)) for room in ("orchestrator", "llm", "media")]
        ended = await asyncio.gather(*runs)
    told = ", ".join(f"{room} {reason} {seconds:.0f} s" for room, reason, seconds in ended)
    tell("frozen rooms", told, 0)


async def frozen(room: str) -> tuple[str, str, float]:
    """Freeze one room under a running turn; how that turn ended, and after how long."""
    async with (
        machine("context", "orchestrator", "llm", "media") as here,
        device(here.context(), here.operator()) as phone,
    ):
        session, told = await phone.new_session(), Told()
        words = "stream 20 tokens 5 ms apart" if room == "media" else LONG
        await phone.say(session, words, told)
        await until(phone, session, "textDelta")
        here.running[room].freeze()
        began = time.monotonic()
        await phone.log_in()
        await phone.log(session)
        if room == "media":
            await phone.say(session, "hello", told)
            await until(phone, session, "turnFinished")
            return room, "no turn needs it", time.monotonic() - began
        failed = (await until(phone, session, "turnFailed"))["turnFailed"]
        seconds = time.monotonic() - began
        here.running[room].thaw()
        await phone.say(session, "hello", told)
        await until(phone, session, "turnFinished")
        assert failed["retryable"]
        assert failed["stage"] == "TURN_STAGE_MODEL"
        assert seconds <= BOUND + 2, seconds
        assert not faults(await phone.history(session, told))
        return room, failed["reason"], seconds
