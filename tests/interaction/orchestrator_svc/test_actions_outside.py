"""Actions that ask the world outside, in real turns: the world answers, fails, or keeps them waiting."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2 as msg
from assistant.turn.v1 import turn_pb2 as pb
from chassis.testing import SOON
from tests.interaction.orchestrator_svc.room import kind, room, start
from tests.interaction.orchestrator_svc.scripted_llm import Ask, Hang, Say, ScriptedLlm
from tests.unit.orchestrator_svc.kit import kit

WEATHER = Ask("a", "get_weather", '{"location": "Lisbon"}')


async def soon(event: asyncio.Event, seconds: float = SOON.total_seconds()) -> None:
    async with asyncio.timeout(seconds):
        await event.wait()


@pytest.mark.requirement("TOOL-3", "TOOL-7")
async def test_an_answer_of_the_world_reaches_model_and_person_with_its_source() -> None:
    llm = ScriptedLlm(steps=[[WEATHER], [Say("14 degrees and light rain.")]])
    async with kit() as (tools, _), room(llm, catalogue=tools) as here, here.turn(start()) as turn:
        finished = await turn.until(lambda frame: kind(frame) == "tool_finished")
        assert (await turn.kinds())[-1] == "turn_finished"
    (source,) = finished.event.tool_finished.sources
    assert (source.publisher, source.uri) == ("Open-Meteo", "https://open-meteo.com")
    assert source.HasField("fetch_time")
    assert "14.3 °C" in llm.continued[0].results[0].content


@pytest.mark.requirement("TOOL-7")
async def test_a_failure_of_the_world_reaches_model_and_person_with_its_reason() -> None:
    llm = ScriptedLlm(steps=[[WEATHER], [Say("The weather cannot be had.")]])
    async with kit() as (tools, there), room(llm, catalogue=tools) as here, here.turn(start()) as turn:
        there.fault = "garbage"
        finished = await turn.until(lambda frame: kind(frame) == "tool_finished")
        assert (await turn.kinds())[-1] == "turn_finished"
    error = finished.event.tool_finished.error
    assert (error.reason, error.retryable) == (error_pb2.ERROR_REASON_PROVIDER_GARBAGE, True)
    assert llm.continued[0].results[0].failed
    assert "cannot be read" in llm.continued[0].results[0].content


@pytest.mark.requirement("AGT-6")
@pytest.mark.parametrize("how", ["cancelled", "stream broken"])
async def test_an_action_that_waits_for_the_world_hangs_up_within_500_ms(how: str) -> None:
    llm = ScriptedLlm(steps=[[WEATHER, Hang()]])
    async with kit() as (tools, there), room(llm, catalogue=tools) as here:
        there.fault = "slow"
        async with here.turn(start()) as turn:
            await soon(there.waiting)
            if how == "cancelled":
                await turn.send(cancel=pb.CancelTurn())
                await soon(there.hung_up, 0.5)
        await soon(there.hung_up, 0.5)


@pytest.mark.requirement("TOOL-4")
@pytest.mark.parametrize(
    ("placement", "leaves"), [(msg.PLACEMENT_LOCAL_ONLY, False), (msg.PLACEMENT_ANY, True)]
)
async def test_a_location_that_must_stay_here_does_not_leave(placement: Any, leaves: bool) -> None:
    where = json.dumps({"latitude": 38.7167, "longitude": -9.1333})
    fact = pb.ContextFact(key="device.location", value_json=where, placement=placement)
    order = start(material=pb.Material(messages=start().material.messages, facts=[fact]))
    llm = ScriptedLlm(steps=[[Ask("a", "get_weather", "{}")], [Say("So it is.")]])
    async with kit() as (tools, there), room(llm, catalogue=tools) as here, here.turn(order) as turn:
        assert (await turn.kinds())[-1] == "turn_finished"
        assert bool(there.asked) is leaves
    told = llm.continued[0].results[0]
    assert told.failed is not leaves
    assert leaves or "may not leave this machine" in told.content
