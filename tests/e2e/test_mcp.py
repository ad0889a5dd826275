"""The mesh as an MCP server: the official SDK's client, through Envoy, on both generations of the protocol."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.e2e.house import House, house, new_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

GENERATIONS = ("2026-07-28", "legacy")


@asynccontextmanager
async def connected(home: House, token: str, mode: str = "2026-07-28") -> AsyncIterator[Client]:
    """A client with this token."""
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{home.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def told(result: Any) -> dict[str, Any]:
    """The structured content of a tool's result."""
    content: dict[str, Any] = result.structured_content
    return content


def text(result: Any) -> str:
    """The text of a tool's result, or of a resource."""
    first = result.content[0] if hasattr(result, "content") else result.contents[0]
    return str(first.text)


@pytest.mark.parametrize("mode", GENERATIONS)
@pytest.mark.requirement("MCP-2", "EDGE-1", "CHAT-1")
async def test_a_client_lists_tools_and_talks_to_the_assistant(home: House, mode: str) -> None:
    async with connected(home, home.token(), mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        made = await client.call_tool("create_session", {"title": "By MCP"})
        session = told(made)["session"]["id"]
        said = await client.call_tool("send_message", {"session_id": session, "text": "hello"})
    assert {"send_message", "get_messages", "get_context", "action_calculate"} <= set(tools)
    assert told(said)["state"] == "finished"
    assert text(said) == told(said)["answer"]


@pytest.mark.parametrize("mode", GENERATIONS)
@pytest.mark.requirement("MCP-2", "EDGE-1")
async def test_a_client_reads_resources_and_runs_an_action(home: House, mode: str) -> None:
    async with connected(home, home.token(), mode) as client:
        session = told(await client.call_tool("create_session", {"title": "Sums"}))["session"]["id"]
        sum_of = await client.call_tool("action_calculate", {"in_session": session, "expression": "17*23"})
        read = await client.read_resource(f"mesh://sessions/{session}")
        with pytest.raises(MCPError) as caught:
            await client.read_resource(f"mesh://sessions/{new_id()}")
    assert "391" in text(sum_of)
    assert json.loads(text(read))["session"]["title"] == "Sums"
    assert caught.value.data["reason"] == "SESSION_NOT_FOUND"


@pytest.mark.requirement("MCP-2", "EDGE-1", "ID-10")
def test_an_api_token_opens_the_door_for_what_it_may_do_until_it_is_revoked(home: House) -> None:
    with home.http() as http:
        body = {"requestId": new_id(), "name": "mcp", "scopes": ["TOKEN_SCOPE_READ"]}
        made = http.post("/v1/apiTokens", json=body).json()

    def ask(token: str, tool: str) -> httpx2.Response:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
        headers = {"accept": "application/json, text/event-stream"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return httpx2.post(f"{home.url}/mcp", json=call, headers=headers, timeout=20)

    assert "sessions" in ask(made["secret"], "list_sessions").text
    assert "SCOPE_MISSING" in ask(made["secret"], "create_session").text
    with home.http() as http:
        assert http.post(f"/v1/apiTokens/{made['apiToken']['id']}:revoke", json={}).status_code == 200
    for token, reason in (
        ("", "TOKEN_MISSING"),
        ("x.y.z", "TOKEN_INVALID"),
        (made["secret"], "TOKEN_REVOKED"),
    ):
        refused = ask(token, "list_sessions")
        assert refused.status_code == 401
        assert refused.json()["details"][0]["reason"] == reason


@pytest.mark.requirement("MCP-2", "EDGE-1")
def test_the_edge_and_the_room_limit_what_comes(home: House) -> None:
    headers = {"authorization": f"Bearer {home.token()}", "content-type": "application/json"}
    with httpx2.Client(base_url=home.url, headers=headers, timeout=20) as http:
        large = http.post("/mcp", content=b" " * 1_200_000)
        page = http.post("/mcp", json={}, headers={"origin": "https://evil.example"})
        own = http.post("/mcp", json={}, headers={"origin": home.url})
        other = http.post("/mcp", json={}, headers={"host": "evil.example"})
        stream = http.get("/mcp", headers={"accept": "text/event-stream"})
        below = http.post("/mcp/x", json={})
    assert (large.status_code, large.json()["details"][0]["reason"]) == (413, "MESSAGE_TOO_LARGE")
    assert [each.status_code for each in (page, other, stream, below)] == [403, 403, 405, 404]
    assert own.status_code not in (401, 403)


@pytest.mark.requirement("MCP-2")
async def test_a_token_of_one_mesh_is_nothing_in_another(home: House) -> None:
    with house() as other:
        assert other.mesh("chat", "--once", "hello").returncode == 0
        headers = {"authorization": f"Bearer {home.token()}"}
        async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
            refused = await http.post(f"{other.url}/mcp", json={})
        assert (refused.status_code, refused.json()["details"][0]["reason"]) == (401, "TOKEN_INVALID")
        async with connected(home, home.token()) as here, connected(other, other.token()) as there:
            session = told(await here.call_tool("create_session", {}))["session"]["id"]
            missing = await there.call_tool("get_messages", {"session_id": session})
            assert told(missing)["error"]["reason"] == "SESSION_NOT_FOUND"
        assert other.stop(signal.SIGTERM) == 0


@pytest.mark.requirement("MCP-2", "ID-10")
async def test_a_call_that_waits_ends_soon_after_its_token_was_revoked(home: House) -> None:
    with home.http() as http:
        scopes = ["TOKEN_SCOPE_READ", "TOKEN_SCOPE_CHAT"]
        made = http.post(
            "/v1/apiTokens", json={"requestId": new_id(), "name": "mcp", "scopes": scopes}
        ).json()
        session = http.post("/v1/sessions", json={"sessionId": new_id()}).json()["session"]["id"]
        headers = {
            "authorization": f"Bearer {made['secret']}",
            "accept": "application/json, text/event-stream",
        }
        said = {"session_id": session, "text": "stream 2000 tokens 20 ms apart"}
        call = {"name": "send_message", "arguments": said}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as client:
            calling = asyncio.create_task(client.post(f"{home.url}/mcp", json=body))
            path = f"/v1/sessions/{session}/events"
            waiting = await asyncio.to_thread(lambda: http.get(path, params={"wait": "10s"}).json())
            http.post(f"/v1/apiTokens/{made['apiToken']['id']}:revoke", json={}).raise_for_status()
            async with asyncio.timeout(20):
                ended = await calling
        turn = waiting["events"][0]["turnId"]
        http.post(f"/v1/sessions/{session}/turns/{turn}:cancel", json={"requestId": new_id()})
    assert ended.status_code == 200
    assert '"reason":"TOKEN_REVOKED"' in ended.text
