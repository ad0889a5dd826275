"""A process that leaves gives its turns back at their next step boundary; another one goes on with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database, Row, Statement, Unit
from orchestrator_svc.effects import Effect
from orchestrator_svc.inputs import Input, YieldRequested
from orchestrator_svc.turn import Turn
from tests.interaction.context_svc.agent import World, agent_room
from tests.interaction.context_svc.conversation_room import PlayedOrchestrator, Room, Stage, kinds, room
from tests.interaction.context_svc.test_owners import expire_owners
from tests.interaction.orchestrator_svc.scripted_llm import Ask, Say, Step

pytestmark = pytest.mark.requirement("OPS-1")

PATIENCE = 20.0  # seconds


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world.txt")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a turn was asked to yield."""
    heard, receive = asyncio.Event(), Turn.receive

    def overheard(self: Turn, told: Input) -> Iterator[Effect]:
        if isinstance(told, YieldRequested):
            heard.set()
        return receive(self, told)

    monkeypatch.setattr(Turn, "receive", overheard)
    return heard


def holds(name: str) -> Step:
    """A step that speaks and waits for the test."""
    return (Say(f"{name}. "), Ask(name, "hold", f'{{"reason":"{name}"}}'))


def _turn() -> Unit[Row]:
    return (yield Statement("SELECT state, owner, receipt FROM turn"))[0]


async def leaves(here: Room, world: World, heard: asyncio.Event) -> None:
    """Drain the room while its turn is at an action, and let the action end."""
    async with asyncio.timeout(PATIENCE):
        await world.entered.wait()
        draining = asyncio.ensure_future(here.schedule.drain(PATIENCE))
        await heard.wait()
        world.gate.set()
        await draining
    world.entered.clear()
    world.gate.clear()
    heard.clear()


async def begin(here: Room) -> str:
    session = await here.session()
    request = chat_pb2.SendMessageRequest(message=here.message(session, "go"))
    [frame async for frame in here.stub.SendMessage(request, timeout=30)]
    return session


async def test_a_turn_goes_through_five_processes_and_each_of_its_actions_runs_once(
    database: Database, world: World, heard: asyncio.Event
) -> None:
    world.gate.clear()
    names = ["a", "b", "c", "d"]
    session = ""
    for owner, name in enumerate(names):
        async with agent_room(database, world, [holds(name)], owner=f"owner-{owner}") as (here, llm):
            session = session or await begin(here)
            await leaves(here, world, heard)
            assert len(llm.opened) == 1
        given = await database.read(_turn)
        assert (given["state"], given["owner"]) == (1, None)  # queued
    async with agent_room(database, world, [(Say("Done."),)], owner="last") as (here, llm):
        log = await here.until(session, lambda events: kinds(events)[-1] == "turn_finished")
        results = [part.tool_result for each in llm.opened[-1].window.messages for part in each.parts]
    assert {each.call_id for each in results if each.call_id} == set(names)
    message = log[-1].turn_finished.message
    assert "".join(part.text for part in message.parts) == "a. b. c. d. Done."
    assert kinds(log).count("tool_started") == kinds(log).count("tool_finished") == len(names)
    started = [event.turn_started.attempt for event in log if event.HasField("turn_started")]
    assert started == [1, 2, 3, 4, 5]
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    assert log[-1].turn_finished.usage.output_tokens == 5 * 5  # all steps of all processes


async def test_a_turn_that_ends_without_another_step_is_not_given_back(
    database: Database, world: World, heard: asyncio.Event
) -> None:
    async def answers(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        yield stage.says("All ")
        await world.gate.wait()
        yield stage.finished("All said.")

    world.gate.clear()
    async with room(database) as here:
        here.orchestrator.play = answers
        session = await begin(here)
        await here.until(session, lambda events: kinds(events)[-1] == "text_delta")
        draining = asyncio.ensure_future(here.schedule.drain(PATIENCE))
        await asyncio.sleep(0)
        world.gate.set()
        await asyncio.wait_for(draining, PATIENCE)
        assert kinds(await here.log(session))[-1] == "turn_finished"


@pytest.mark.requirement("CHAT-4")
async def test_one_that_dies_before_it_went_on_leaves_what_was_said_once(
    database: Database, world: World, heard: asyncio.Event
) -> None:
    class Silent(PlayedOrchestrator):
        async def hang(self, stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
            began.set()
            await asyncio.Event().wait()
            yield stage.started()

    world.gate.clear()
    began = asyncio.Event()
    async with agent_room(database, world, [holds("a")], owner="first") as (here, _):
        session = await begin(here)
        await leaves(here, world, heard)
    silent = Silent()
    silent.play = silent.hang
    async with room(database, silent, owner="second"):
        await asyncio.wait_for(began.wait(), PATIENCE)
    await database.write("owner", expire_owners)
    async with room(database, owner="third") as there:
        log = await there.until(session, lambda events: kinds(events)[-1] == "turn_failed")
    assert log[-1].turn_failed.partial.parts[0].text == "a. "


async def test_one_that_was_given_back_can_be_stopped_and_keeps_its_words(
    database: Database, world: World, heard: asyncio.Event
) -> None:
    world.gate.clear()
    async with agent_room(database, world, [holds("a")], owner="first") as (here, _):
        session = await begin(here)
        await leaves(here, world, heard)
        (accepted, *_) = await here.log(session)
        cancel = chat_pb2.CancelTurnRequest(
            session_id=session, turn_id=accepted.turn_id, request_id="3c5e2f0e-6a55-4d0e-9d68-8f5a9a0a4f11"
        )
        await here.stub.CancelTurn(cancel, timeout=30)
        log = await here.log(session)
    assert log[-1].turn_cancelled.partial.parts[0].text == "a. "
