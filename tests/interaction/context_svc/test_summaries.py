"""Summaries: the older half of a long conversation, in the background, and gone with what it was made from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database, Row, Statement, Unit
from chassis.testing import FakeClock
from tests.interaction.context_svc.conversation_room import PlayedOrchestrator, Room, Stage, room

pytestmark = pytest.mark.requirement("CHAT-8")
SUMMARY = turn_pb2.TURN_PURPOSE_SUMMARY


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PostgreSQL go by the test's clock too, where jobs are claimed."""

    def now(engine: object, now_us: int) -> Unit[int]:
        yield Statement("SELECT 1 AS one")
        return now_us

    monkeypatch.setattr("context_svc.job_rows.database_now", now)
    monkeypatch.setattr("context_svc.claims.database_now", now)


class Model:
    """Answers; says that its window is full; summarises by naming what it was given."""

    def __init__(self) -> None:
        self.full = True
        self.most = 100  # messages it can summarise at once
        self.said_nothing = False

    async def play(self, stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        given = stage.start.material
        dropped = max(0, len(given.messages) - self.most) if stage.start.purpose == SUMMARY else 0
        report = chat_pb2.WindowReport(
            kept_messages=len(given.messages),
            dropped_messages=dropped,
            window_tokens=80 if self.full else 10,
            budget_tokens=100,
        )
        started = chat_pb2.TurnStarted(window=report, model=chat_pb2.ModelChoice(model="played"))
        yield stage.event(turn_started=started)
        if stage.start.purpose == SUMMARY and not self.said_nothing:
            yield stage.step(input_tokens=10, cost_micro_usd=3)
            words = [part.text for message in given.messages for part in message.parts]
            yield stage.finished(" | ".join([given.summary.text, *words]), input_tokens=10, cost_micro_usd=3)
        elif stage.start.purpose == turn_pb2.TURN_PURPOSE_ANSWER:
            yield stage.finished(f"re {given.messages[-1].parts[0].text}")
        else:
            yield stage.finished(" ")


@asynccontextmanager
async def world(database: Database) -> AsyncIterator[tuple[Room, FakeClock, Model]]:
    orchestrator, clock, model = PlayedOrchestrator(), FakeClock(), Model()
    orchestrator.play = model.play
    async with room(database, orchestrator, clock=clock, background=True) as here:
        yield here, clock, model


async def talk(here: Room, session: str, *texts: str) -> None:
    for text in texts:
        await here.say(session, text)


async def settled(here: Room, clock: FakeClock) -> None:
    """Let the timer work until no job of a title or a summary is open."""
    for _ in range(300):  # a title is tried three times, with pauses
        await clock.advance(timedelta(seconds=1))
        await clock.asleep(3)
        if not await here.database.read(_open_jobs):
            return
    raise AssertionError("a job does not end")


def _open_jobs() -> Unit[bool]:
    return bool(
        (yield Statement("SELECT 1 AS one FROM job WHERE kind IN ('title', 'summary') AND state < 3"))
    )


async def summaries(here: Room, session: str) -> list[Row]:
    def unit() -> Unit[list[Row]]:
        return list(
            (
                yield Statement(
                    "SELECT * FROM summary WHERE session_id = :session ORDER BY through_depth",
                    {"session": session},
                )
            )
        )

    return await here.database.read(unit)


def answers(here: Room) -> list[turn_pb2.StartTurn]:
    return [each for each in here.orchestrator.starts if each.purpose == turn_pb2.TURN_PURPOSE_ANSWER]


async def test_a_nearly_full_window_is_summarised_and_later_turns_are_given_the_summary(
    database: Database,
) -> None:
    async with world(database) as (here, clock, model):
        session = await here.session()
        await talk(here, session, *(f"say {number}" for number in range(6)))
        await settled(here, clock)
        (made,) = await summaries(here, session)
        assert made["text"].startswith("| say 0 | re say 0 | say 1")
        assert made["messages"] == made["through_depth"] + 1 == 6
        assert len(json.loads(made["sources"])) == 6
        model.full = False
        await talk(here, session, "more")
        given = answers(here)[-1].material
        assert given.summary.text == made["text"]
        assert given.summary.messages == 6
        assert given.dropped_messages == 0
        assert given.messages[5].id == given.summary.through_message_id
        jobs = [each for each in here.orchestrator.starts if each.purpose == SUMMARY]
        request = chat_pb2.GetTurnReceiptRequest(session_id=session, turn_id=jobs[0].turn_id)
        receipt = (await here.stub.GetTurnReceipt(request)).receipt
        assert (receipt.usage.cost_micro_usd, receipt.model.model) == (3, "played")
        assert receipt.state == session_pb2.TURN_STATE_FINISHED


async def test_the_next_summary_goes_on_from_the_one_before_it(database: Database) -> None:
    async with world(database) as (here, clock, _):
        session = await here.session()
        await talk(here, session, *(f"say {number}" for number in range(6)))
        await settled(here, clock)
        await talk(here, session, *(f"then {number}" for number in range(6)))
        await settled(here, clock)
        first, *_, last = await summaries(here, session)
        assert last["base_id"]
        assert last["text"].startswith(first["text"])
        assert last["messages"] == last["through_depth"] + 1 > first["messages"]


async def test_what_the_model_could_not_read_whole_is_not_called_summarised(database: Database) -> None:
    async with world(database) as (here, clock, model):
        session = await here.session()
        model.most = 3
        await talk(here, session, *(f"say {number}" for number in range(6)))
        await settled(here, clock)
        (made,) = await summaries(here, session)
        assert made["messages"] == 3


async def test_a_summary_keeps_the_mark_of_what_it_was_made_from(database: Database) -> None:
    async with world(database) as (here, clock, _):
        session = await here.session()
        await here.say(session, "at home", placement=message_pb2.PLACEMENT_LOCAL_ONLY)
        await talk(here, session, *(f"say {number}" for number in range(5)))
        await settled(here, clock)
        asked = next(each for each in here.orchestrator.starts if each.purpose == SUMMARY)
        assert asked.material.placement == message_pb2.PLACEMENT_LOCAL_ONLY
        assert [row["local_only"] for row in await summaries(here, session)] == [1]


async def test_another_branch_is_not_given_the_summary_of_the_first(database: Database) -> None:
    async with world(database) as (here, clock, _):
        session = await here.session()
        await talk(here, session, *(f"say {number}" for number in range(6)))
        root = answers(here)[0].material.messages[0].id
        await settled(here, clock)
        await here.say(session, "another way", parent_id=root)
        given = answers(here)[-1].material
        assert not given.HasField("summary")
        assert [message.parts[0].text for message in given.messages] == ["say 0", "another way"]


@pytest.mark.requirement("CHAT-14")
@pytest.mark.parametrize("mark", ["private", "sealed"])
async def test_a_private_or_sealed_session_is_never_summarised(database: Database, mark: str) -> None:
    async with world(database) as (here, clock, _):
        session = await here.session()
        await here.database.write(session, lambda: _marked(session, mark, clock.now_us()))
        await talk(here, session, *(f"say {number}" for number in range(6)))
        await settled(here, clock)
        assert {each.purpose for each in here.orchestrator.starts} == {turn_pb2.TURN_PURPOSE_ANSWER}


async def test_while_a_turn_runs_nothing_is_summarised(database: Database) -> None:
    async with world(database) as (here, clock, model):
        session, other = await here.session(), await here.session()
        await talk(here, session, *(f"say {number}" for number in range(6)))
        release, running = asyncio.Event(), asyncio.Event()

        async def waits(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
            running.set()
            await release.wait()
            yield stage.finished("so")

        here.orchestrator.play = waits
        task = asyncio.create_task(here.say(other, "wait"))
        await asyncio.wait_for(running.wait(), 30)
        for _ in range(8):
            await clock.advance(timedelta(seconds=1))
            await clock.asleep(3)
        assert await summaries(here, session) == []
        here.orchestrator.play = model.play
        release.set()
        await task
        await settled(here, clock)
        assert len(await summaries(here, session)) == 1


@pytest.mark.parametrize("local", [True, False])
async def test_a_model_of_the_mesh_is_let_go_when_a_person_speaks(database: Database, local: bool) -> None:
    async with world(database) as (here, clock, model):
        session = await here.session()
        await talk(here, session, *(f"say {number}" for number in range(6)))
        underway, gone, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
            if stage.start.purpose == SUMMARY:
                choice = chat_pb2.ModelChoice(model="played", local=local)
                yield stage.event(turn_started=chat_pb2.TurnStarted(model=choice))
                underway.set()
                try:
                    await go_on.wait()
                finally:
                    gone.set()
            async for frame in model.play(stage):
                yield frame

        here.orchestrator.play = slow
        for _ in range(30):
            await clock.advance(timedelta(seconds=1))
            await clock.asleep(3)
            if underway.is_set():
                break
        await here.say(session, "and now")
        if local:
            await asyncio.wait_for(gone.wait(), 30)
        assert gone.is_set() is local
        go_on.set()
        await settled(here, clock)
        assert len(await summaries(here, session)) == 1


@pytest.mark.parametrize("gone", [0, 3, 5])
async def test_a_summary_goes_with_the_first_or_last_message_it_was_made_from(
    database: Database, gone: int
) -> None:
    """Retention removes from the oldest message on; clearing removes all."""
    async with world(database) as (here, clock, _):
        session = await here.session()
        await talk(here, session, *(f"say {number}" for number in range(6)))
        await settled(here, clock)
        assert len(await summaries(here, session)) == 1
        await here.database.write(session, lambda: _without_oldest(session, gone))
        assert (await summaries(here, session) == []) is bool(gone)


def _marked(session: str, mark: str, now_us: int) -> Unit[None]:
    """A private session that nobody has used since 1970 would be over."""
    yield Statement(
        f"UPDATE session SET {mark} = 1, update_us = :now WHERE id = :id", {"id": session, "now": now_us}
    )


def _without_oldest(session: str, count: int) -> Unit[None]:
    yield Statement(
        "DELETE FROM message WHERE session_id = :session AND id IN (SELECT id FROM message"
        " WHERE session_id = :session ORDER BY sequence LIMIT :count)",
        {"session": session, "count": count},
    )
