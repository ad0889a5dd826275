"""Turns and actions over MCP: waited for, polled as tasks, held back until a person agrees, cut with their sign-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import mcp_types as types
import pytest
from mcp import Client
from mcp.client import advertise
from mcp.shared.exceptions import MCPError

from chassis.database import Database
from context_svc.mcp_door.opening import opened
from context_svc.mcp_door.tasks import EXTENSION
from context_svc.readers import CloseReason
from context_svc.settings import ContextSettings
from tests.interaction.context_svc.agent import World, agent_room, approve
from tests.interaction.context_svc.conversation_room import Room, room
from tests.interaction.context_svc.mcp_client import connected, text, told
from tests.interaction.context_svc.test_waiting import ends_with, one

MODERN = "2026-07-28"


class TaskCreated(types.Result):
    """Instead of a tool's result."""

    result_type: Literal["task"]
    task_id: str
    status: str


class TaskState(types.Result):
    """Where a task stands."""

    task_id: str
    status: str
    status_message: str | None = None
    result: dict[str, Any] | None = None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world.txt")


@pytest.fixture
def socket(socket_dir: Path) -> Path:
    return socket_dir / "m.sock"


@asynccontextmanager
async def door(here: Room, socket: Path) -> AsyncIterator[None]:
    """The MCP server of a room."""
    gone = f"unix:{socket.parent}/none.sock"
    folder = socket.parent
    settings = ContextSettings.model_validate(
        {
            "listen": gone,
            "operator_listen": gone,
            "orchestrator": gone,
            "media": gone,
            "data_dir": folder,
            "keys_dir": folder,
            "mcp_listen": f"unix:{socket}",
        }
    )
    async with opened(settings, here.boundary, here.services, "0"):
        yield


class OfTask(types.Request[dict[str, Any], str]):
    """A request about a task, which its header names too."""

    name_param = "taskId"


async def ask_task(client: Client, method: str, task_id: str) -> TaskState:
    request = OfTask(method=method, params={"taskId": task_id})
    return await client.session.send_request(request, TaskState)


def order(session: str, **arguments: object) -> dict[str, object]:
    return {"in_session": session, **arguments}


@pytest.mark.requirement("MCP-2", "CHAT-1")
@pytest.mark.parametrize("mode", [MODERN, "legacy"])
async def test_a_message_is_answered_and_lands_in_the_same_log(
    database: Database, socket: Path, mode: str
) -> None:
    async with room(database) as here, door(here, socket), connected(socket, mode=mode) as client:
        session = await here.session()
        said = await client.call_tool("send_message", {"session_id": session, "text": "hello"})
        assert told(said)["state"] == "finished"
        assert text(said) == told(said)["answer"] == "you said: hello"
        assert (await here.log(session))[0].turn_accepted.message.parts[0].text == "hello"
        again = await client.call_tool("get_turn", {"turn": told(said)["turn"]})
        assert told(again) == told(said)


@pytest.mark.requirement("MCP-2", "AGT-4")
async def test_an_effect_waits_for_a_person_and_says_what_must_be_approved(
    database: Database, world: World, socket: Path
) -> None:
    async with agent_room(database, world, []) as (here, _), door(here, socket), connected(socket) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["action_write"].annotations.destructive_hint  # type: ignore[union-attr]
        session = await here.session()
        waiting = told(await client.call_tool("action_write", order(session, text="hello")))
        assert (waiting["state"], world.effects) == ("waiting", [])
        assert [(each["action"], each["arguments_json"]) for each in waiting["approvals"]] == [
            ("write", '{"text":"hello"}')
        ]
        assert "RespondToTurn" in waiting["how"]
        asked = one(await here.log(session), "approval_requested")
        await here.stub.RespondToTurn(approve(session, asked), timeout=30)
        done = told(await client.call_tool("get_turn", {"turn": waiting["turn"]}))
    assert (done["state"], world.effects) == ("finished", ["hello"])
    assert [(each["action"], each["outcome"]) for each in done["actions"]] == [("write", "done")]


@pytest.mark.requirement("MCP-2")
async def test_an_action_runs_directly_and_its_faults_are_told(
    database: Database, world: World, socket: Path
) -> None:
    async with agent_room(database, world, []) as (here, _), door(here, socket), connected(socket) as client:
        session = await here.session()
        time = await client.call_tool("action_current_time", order(session, zone="Europe/Paris"))
        assert not time.is_error
        assert "Europe/Paris" in text(time)
        for name, arguments, reason in (
            ("action_write", order(session, word="x"), "ARGUMENTS_INVALID"),
            ("action_none", order(session), "ACTION_NOT_FOUND"),
            ("action_write", {"text": "x"}, "INVALID_FIELD"),
        ):
            refused = await client.session.call_tool(name, arguments)
            assert refused.is_error
            assert told(refused)["error"]["reason"] == reason
    assert world.effects == []


@pytest.mark.requirement("MCP-2")
async def test_a_long_call_becomes_a_task_that_outlives_its_client(
    database: Database, world: World, socket: Path
) -> None:
    world.gate.clear()
    known = [advertise(EXTENSION)]
    async with agent_room(database, world, []) as (here, _), door(here, socket):
        session = await here.session()
        async with connected(socket, extensions=known) as client:
            request = types.CallToolRequest(
                params=types.CallToolRequestParams(
                    name="action_hold",
                    arguments=order(session),
                )
            )
            created = await client.session.send_request(request, TaskCreated)
            assert (created.result_type, created.status) == ("task", "working")
        world.gate.set()
        await here.until(session, ends_with("turn_finished"))
        async with connected(socket, extensions=known) as client:
            done = await ask_task(client, "tasks/get", created.task_id)
            await ask_task_quietly(client, "tasks/cancel", created.task_id)
            with pytest.raises(MCPError) as unknown:
                await ask_task(client, "tasks/get", f"{session}.nothing.1")
        async with connected(socket) as client:
            with pytest.raises(MCPError) as undeclared:
                await ask_task(client, "tasks/get", created.task_id)
    assert done.status == "completed"
    assert done.result is not None
    assert done.result["structuredContent"]["actions"][0]["result"] == "held"
    assert unknown.value.data["reason"] == "TURN_NOT_FOUND"
    assert undeclared.value.code == types.MISSING_REQUIRED_CLIENT_CAPABILITY


async def ask_task_quietly(client: Client, method: str, task_id: str) -> None:
    request = OfTask(method=method, params={"taskId": task_id})
    await client.session.send_request(request, types.EmptyResult)


@pytest.mark.requirement("MCP-2")
async def test_a_turn_can_be_left_and_stopped(database: Database, world: World, socket: Path) -> None:
    world.gate.clear()
    async with agent_room(database, world, []) as (here, _), door(here, socket), connected(socket) as client:
        session = await here.session()
        calling = asyncio.create_task(client.call_tool("action_hold", order(session)))
        await asyncio.wait_for(world.entered.wait(), 30)
        accepted = one(await here.log(session), "turn_accepted")
        turn = f"{session}.{accepted.turn_id}.{accepted.sequence}"
        running = await client.call_tool("get_turn", {"turn": turn, "wait_seconds": 0})
        assert told(running)["state"] == "running"
        await client.call_tool("cancel_turn", {"turn": turn})
        ended = await asyncio.wait_for(calling, 30)
    assert ended.is_error
    assert told(ended)["state"] == "cancelled"


@pytest.mark.requirement("MCP-2", "ID-5")
async def test_a_call_that_waits_ends_with_the_sign_in_that_made_it(
    database: Database, world: World, socket: Path
) -> None:
    world.gate.clear()
    async with agent_room(database, world, []) as (here, _), door(here, socket), connected(socket) as client:
        session = await here.session()
        calling = asyncio.create_task(client.call_tool("action_hold", order(session)))
        await asyncio.wait_for(world.entered.wait(), 30)
        here.readers.close_all(CloseReason.REVOKED)
        left = await asyncio.wait_for(calling, 30)
        world.gate.set()
    assert left.is_error
    assert told(left)["error"]["reason"] == "TOKEN_REVOKED"


@pytest.mark.requirement("MCP-2")
async def test_a_room_that_drains_answers_what_waits_with_where_to_ask_again(
    database: Database, world: World, socket: Path
) -> None:
    world.gate.clear()
    async with agent_room(database, world, []) as (here, _), door(here, socket), connected(socket) as client:
        session = await here.session()
        calling = asyncio.create_task(client.call_tool("action_hold", order(session)))
        await asyncio.wait_for(world.entered.wait(), 30)
        here.readers.close_all(CloseReason.DRAINING)
        left = told(await asyncio.wait_for(calling, 30))
        world.gate.set()
        await here.until(session, ends_with("turn_finished"))
        done = told(await client.call_tool("get_turn", {"turn": left["turn"]}))
    assert (left["state"], done["state"]) == ("running", "finished")
