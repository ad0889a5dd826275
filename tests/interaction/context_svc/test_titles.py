"""Titles: suggested once, in the background, while nothing runs, and never against the person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.testing import FakeClock, eventually
from context_svc.job_rows import Job, JobState
from context_svc.session_rows import Session, TitleSource
from context_svc.sessions import SessionChange
from context_svc.titles import cleaned
from tests.interaction.context_svc.conversation_room import (
    PlayedOrchestrator,
    Room,
    Stage,
    answers_at_once,
    caller,
    kinds,
    room,
)

TITLE = turn_pb2.TURN_PURPOSE_TITLE


def titled(*titles: str) -> Callable[[Stage], AsyncIterator[turn_pb2.RunTurnResponse]]:
    """Answer messages at once, and requests for a title with these, the last one again and again."""
    left = list(titles)

    async def play(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        if stage.start.purpose != TITLE:
            async for response in answers_at_once(stage):
                yield response
            return
        yield stage.started()
        yield stage.finished(left.pop(0) if len(left) > 1 else left[0])

    return play


class World:
    """A conversation whose clock the test moves."""

    def __init__(self, here: Room, clock: FakeClock) -> None:
        self.here = here
        self.clock = clock

    async def session(self, settings: session_pb2.SessionSettings | None = None) -> str:
        session = await self.here.session()
        data = settings.SerializeToString() if settings else b""
        await self.here.database.write(session, lambda: _with_settings(session, data))
        return session

    async def stored(self, session: str) -> Session:
        return (await self.here.sessions.get(caller(), session)).session

    async def job(self) -> Job | None:
        page = await self.here.jobs.list_page(caller(), size=0, token="", open_only=False)
        return next((job for job in page.jobs if job.kind == "title"), None)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Let seconds pass until it holds; at most thirty."""
        for _ in range(30):
            if await holds():
                return
            await self.clock.advance(timedelta(seconds=1))
            await self.clock.asleep(3)  # the two loops of the schedule, and the timer
        raise AssertionError("it never held")

    async def over(self) -> bool:
        found = await self.job()
        return found is not None and found.state.over

    def asked(self) -> list[turn_pb2.StartTurn]:
        return [start for start in self.here.orchestrator.starts if start.purpose == TITLE]


@asynccontextmanager
async def world(database: Database, *titles: str) -> AsyncIterator[World]:
    orchestrator, clock = PlayedOrchestrator(), FakeClock()
    orchestrator.play = titled(*titles)
    async with room(database, orchestrator, background=True, clock=clock) as here:
        yield World(here, clock)


def _with_settings(session: str, settings: bytes) -> Unit[None]:
    yield Statement(
        "UPDATE session SET settings = :settings WHERE id = :id", {"id": session, "settings": settings}
    )


@pytest.mark.requirement("SES-2")
async def test_a_title_comes_from_the_first_exchange_and_is_in_the_log(database: Database) -> None:
    async with world(database, '"Trip to Rome."') as here:
        session = await here.session()
        await here.here.say(session, "Plan a trip to Rome")
        await here.until(here.over)
        stored = await here.stored(session)
        assert (stored.title, stored.title_source) == ("Trip to Rome", TitleSource.MODEL)
        last = (await here.here.log(session))[-1]
        assert last.session_changed.session.title == "Trip to Rome"
        assert list(last.session_changed.changed) == ["title"]
        (asked,) = here.asked()
        assert [part.text for message in asked.material.messages for part in message.parts] == [
            "Plan a trip to Rome",
            "you said: Plan a trip to Rome",
        ]
        await here.here.say(session, "And to Naples")
        await here.clock.advance(timedelta(seconds=10))
        assert len(here.asked()) == 1


@pytest.mark.requirement("SES-2")
async def test_a_title_of_the_person_is_never_replaced(database: Database) -> None:
    async with world(database, "Something else") as here:
        session = await here.session()
        await here.here.say(session, "hello")

        def named(_: Session) -> SessionChange:
            return SessionChange(title="Mine", settings=None, names=("title",))

        await here.here.sessions.update(caller(), session, named, expected_version=0)
        await here.until(here.over)
        stored = await here.stored(session)
        assert (stored.title, stored.title_source) == ("Mine", TitleSource.USER)


@pytest.mark.requirement("SES-2")
async def test_a_private_session_is_never_shown_to_a_model_for_a_title(database: Database) -> None:
    async with world(database, "Leak") as here:
        session = await here.session(session_pb2.SessionSettings(private=True))
        await here.here.say(session, "hello")
        await here.until(here.over)
        assert (here.asked(), (await here.stored(session)).title) == ([], "")


@pytest.mark.requirement("SES-2")
async def test_a_title_waits_until_no_turn_runs(database: Database) -> None:
    async with world(database, "Later") as here:
        busy, session = await here.session(), await here.session()
        stages: list[Stage] = []
        usual = here.here.orchestrator.play

        async def play(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
            if stage.start.session_id != busy:
                async for response in usual(stage):
                    yield response
                return
            stages.append(stage)
            yield stage.started()
            await stage.cancelled.wait()
            yield stage.stopped("")

        here.here.orchestrator.play = play
        send = chat_pb2.SendMessageRequest(message=here.here.message(busy, "think long"))
        (accepted,) = [frame.event async for frame in here.here.stub.SendMessage(send, timeout=30)]
        await eventually(lambda: bool(stages))
        await here.here.say(session, "hello")
        await here.clock.advance(timedelta(seconds=20))
        assert here.asked() == []
        stop = chat_pb2.CancelTurnRequest(session_id=busy, turn_id=accepted.turn_id, request_id=ids.uuid())
        await here.here.stub.CancelTurn(stop)
        await here.until(here.over)
        assert (await here.stored(session)).title == "Later"


@pytest.mark.requirement("SES-2")
async def test_an_empty_suggestion_is_tried_again_and_then_given_up(database: Database) -> None:
    async with world(database, " ") as here:
        session = await here.session()
        await here.here.say(session, "hello")
        await here.until(here.over)
        job = await here.job()
        assert job is not None
        assert (job.state, job.failures, len(here.asked())) == (JobState.FAILED, 2, 3)
        assert (await here.stored(session)).title == ""


@pytest.mark.requirement("SES-2")
async def test_content_marked_local_stays_local_in_the_request(database: Database) -> None:
    async with world(database, "Quiet") as here:
        local = message_pb2.PLACEMENT_LOCAL_ONLY
        session = await here.session(session_pb2.SessionSettings(placement=local))
        events = await here.here.say(session, "hello")
        assert kinds(events)[-1] == "turn_finished"
        await here.until(here.over)
        assert [asked.material.placement for asked in here.asked()] == [local]


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ('"Trip to Rome."\nIs that good?', "Trip to Rome"),
        ("Title: **Pasta  for two**", "Pasta for two"),
        ("\n\n  ", ""),
        ("„Ein Ausflug“", "Ein Ausflug"),
        ("word " * 40, "word " * 15 + "word…"),
    ],
)
def test_a_title_is_one_clean_line(said: str, title: str) -> None:
    assert cleaned(said) == title
