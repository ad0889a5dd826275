"""Context items that actions leave behind: stored with their ToolFinished, seen by later turns, tools and watchers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from assistant.chat.v1 import chat_pb2
from chassis.call import User
from chassis.database import Database
from chassis.testing import FakeClock, serve_for_test
from context_svc.consents import Kind as Consented
from context_svc.device_context import item_key
from context_svc.item_rows import Selection
from context_svc.items import Author, Item, ItemWrite, Placement, Scope, Source
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.conversation import ContextUpdate
from orchestrator_svc.peers import LlmModels
from orchestrator_svc.servicer import TurnServicer
from orchestrator_svc.tools.tool import Effect, Output, Setting, Tool
from orchestrator_svc.turns import Turns
from tests.interaction.context_svc.agent import Nothing
from tests.interaction.context_svc.conversation_room import ACCOUNT, Room, caller, kinds, room
from tests.interaction.context_svc.test_waiting import one
from tests.interaction.orchestrator_svc.scripted_llm import POLICIES, Ask, Say, ScriptedLlm, Step
from tests.unit.orchestrator_svc.kit import kit
from tests.unit.orchestrator_svc.outside import Outside

LISBON = {"latitude": 38.7223, "longitude": -9.1393, "label": "Lisbon"}


@asynccontextmanager
async def world(
    database: Database, steps: list[Step], *more: Tool[Any], clock: FakeClock | None = None
) -> AsyncIterator[tuple[Room, ScriptedLlm, Outside]]:
    """The room, its agent loop with every action that ships, and a world outside that answers."""
    llm = ScriptedLlm(steps=steps)
    clock = clock or FakeClock()
    async with kit() as (shipped, outside), serve_for_test(llm.register, policies=POLICIES) as channel:
        catalogue = Catalogue((*shipped, *more))
        models = LlmModels(channel, clock)
        turns = Turns(models=models, catalogue=catalogue, clock=clock)
        servicer = TurnServicer(turns, catalogue, models)
        async with room(database, servicer, clock=clock) as here:  # type: ignore[arg-type]
            yield here, llm, outside


def call(action: str, **arguments: Any) -> list[Step]:
    return [(Ask("c1", action, json.dumps(arguments)),), (Say("There."),)]


def leaves(*updates: ContextUpdate) -> Tool[Nothing]:
    async def perform(arguments: Nothing, setting: Setting) -> Output:
        return Output(content="left", context_updates=updates)

    return Tool(
        name="leave",
        description="Leaves something behind.",
        arguments=Nothing,
        perform=perform,
        agent="test",
        effect=Effect.NONE,
    )


async def items(here: Room, session: str = "") -> dict[str, Item]:
    user: User = caller()
    found = await here.items.read(
        user, Scope(account_id=ACCOUNT, session_id=session), Selection(), with_user=False
    )
    return {item.key: item for item in found.items}


async def share_location(here: Room, placement: Placement = Placement.ANY) -> None:
    """What UpdateContext stores of a device that may report where it is."""
    write = ItemWrite(
        key=item_key("phone-1", Consented.LOCATION),
        value=json.dumps(LISBON),
        author=Author(source=Source.DEVICE, device_id="phone-1"),
        placement=placement,
    )
    await here.database.write("i", lambda: here.items.put(Scope(account_id=ACCOUNT), [write], 1))


@pytest.mark.requirement("AGT-8")
async def test_and_tomorrow_needs_no_place(database: Database) -> None:
    steps = [*call("get_weather", location="38.7,-9.1"), *call("get_forecast", days=2)]
    async with world(database, steps) as (here, llm, outside):
        session = await here.session()
        log = await here.say(session, "What is the weather at 38.7,-9.1?")
        finished = one(log, "tool_finished").tool_finished
        assert list(finished.context_keys) == ["weather.place"]
        item = (await items(here, session))["weather.place"]
        assert (item.source, item.action, item.turn_id) == (Source.TOOL, "get_weather", log[0].turn_id)
        assert item.expire_us is not None
        whole = kinds(await here.log(session))
        assert whole.index("context_changed") + 1 == whole.index("tool_finished")  # one commit
        await here.say(session, "and tomorrow?")
        assert [asked.query["latitude"] for asked in outside.asked] == ["38.7000", "38.7000"]
        window = "".join(part.text for m in llm.opened[-1].window.messages for part in m.parts)
        assert "weather.place" in window


@pytest.mark.requirement("CTX-4")
@pytest.mark.parametrize("asked", ["here", "", "current"])
async def test_here_is_where_the_persons_device_is(database: Database, asked: str) -> None:
    async with world(database, call("get_weather", location=asked)) as (here, _, outside):
        await share_location(here)
        session = await here.session()
        log = await here.say(session, "weather here")
        assert "Lisbon" in one(log, "tool_finished").tool_finished.result
        assert outside.asked[0].query["latitude"] == "38.7223"
        assert (await items(here, session))["weather.place"].value == "{}"  # where they are is not kept


@pytest.mark.requirement("CTX-4")
async def test_places_near_the_person_are_found(database: Database) -> None:
    async with world(database, call("location_search", location="current", type="pharmacy")) as (
        here,
        _,
        outside,
    ):
        await share_location(here)
        log = await here.say(await here.session(), "a pharmacy near me")
        assert one(log, "tool_finished").tool_finished.outcome == chat_pb2.TOOL_OUTCOME_DONE
        assert "38.7223" in outside.asked[0].body.decode() + str(outside.asked[0].query)


@pytest.mark.requirement("CTX-4", "AGT-7")
@pytest.mark.parametrize("location", ["here", "38.7223,-9.1393", "38.722, -9.139"])
async def test_a_location_that_stays_here_leaves_in_no_argument(database: Database, location: str) -> None:
    async with world(database, call("get_weather", location=location)) as (here, _, outside):
        await share_location(here, Placement.LOCAL_ONLY)
        log = await here.say(await here.session(), f"weather at {location}")
        finished = one(log, "tool_finished").tool_finished
        assert finished.outcome == chat_pb2.TOOL_OUTCOME_FAILED
        assert outside.asked == []


@pytest.mark.requirement("AGT-8")
async def test_a_watcher_sees_what_a_tool_left(database: Database) -> None:
    tool = leaves(ContextUpdate(key="tool.note", value='{"a": 1}', user_scope=True, ttl=60))
    async with world(database, call("leave"), tool) as (here, _, _outside):
        with here.watchers.watcher(caller(), ACCOUNT) as watcher:
            await here.say(await here.session(), "leave it")
            assert await asyncio.wait_for(watcher.woken(5), 20)
        assert (await items(here))["tool.note"].value == '{"a":1}'


@pytest.mark.requirement("AGT-8", "CTX-2")
@pytest.mark.parametrize("key", ["memory.x", "device.d.location", "mine"])
async def test_a_tool_takes_nothing_that_is_not_a_tools(database: Database, key: str) -> None:
    updates = (ContextUpdate(key="tool.fine", value="1"), ContextUpdate(key=key, value="2", user_scope=True))
    async with world(database, call("leave"), leaves(*updates)) as (here, _, _outside):
        author = Author(source=Source.USER)
        write = ItemWrite(key="mine", value="0", author=author)
        await database.write("i", lambda: here.items.put(Scope(account_id=ACCOUNT), [write], 1))
        session = await here.session()
        log = await here.say(session, "leave it")
        finished = one(log, "tool_finished").tool_finished
        assert (finished.outcome, list(finished.context_keys)) == (chat_pb2.TOOL_OUTCOME_DONE, [])
        assert list(await items(here)) == ["mine"]  # all or nothing
        assert await items(here, session) == {}


@pytest.mark.requirement("AGT-8")
async def test_what_a_tool_left_ends_with_its_time(database: Database) -> None:
    clock = FakeClock()
    tool = leaves(ContextUpdate(key="tool.note", value="1", ttl=60))
    async with world(database, call("leave"), tool, clock=clock) as (here, _, _outside):
        session = await here.session()
        await here.say(session, "leave it")
        assert "tool.note" in await items(here, session)
        clock.jump(timedelta(seconds=61))
        assert await items(here, session) == {}


@pytest.mark.requirement("AGT-8")
async def test_a_tool_is_given_only_what_it_declares(database: Database) -> None:
    given: list[Setting] = []

    async def perform(arguments: Nothing, setting: Setting) -> Output:
        given.append(setting)
        return Output(content="seen")

    look: Callable[..., Tool[Nothing]] = Tool
    tool = look(
        name="look",
        description="Looks at what it is given.",
        arguments=Nothing,
        perform=perform,
        agent="test",
        effect=Effect.NONE,
        context_keys=("tool.a",),
    )
    left = leaves(ContextUpdate(key="tool.a", value="1"), ContextUpdate(key="tool.b", value="2"))
    async with world(database, [*call("leave"), *call("look")], tool, left) as (here, _, _outside):
        session = await here.session()
        await here.say(session, "leave it")
        await here.say(session, "look at it")
        assert dict(given[0].facts) == {"tool.a": "1"}
