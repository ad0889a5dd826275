"""Who comes through the MCP door, and what of whose they get."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from assistant.identity.v1 import identity_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import Person, Room, Start
from tests.interaction.context_svc.mcp_client import URL, connected, http, text, told
from tests.interaction.context_svc.test_api_tokens import CHAT, READ, made

ORIGIN = "https://app.example"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
JSON = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture
def socket(socket_dir: Path) -> Path:
    return socket_dir / "m.sock"


@pytest.fixture
async def room(start: Start, socket: Path) -> AsyncIterator[Room]:
    """A room with its MCP server, and an orchestrator that is away."""
    async with start(
        mcp_listen=f"unix:{socket}", mcp_origins=(ORIGIN,), mcp_hosts=("127.0.0.1",), open_registration=True
    ) as running:
        yield running


def access(person: Person) -> str:
    return person.answer.tokens.access_token


async def answered(socket: Path, token: str = "", **headers: str) -> tuple[int, str]:
    """How a bare ping is answered: the HTTP status and the reason."""
    async with http(socket, token, **JSON, **headers) as client:
        answer = await client.post(URL, json=PING)
    if answer.status_code == 200:
        return 200, ""
    return answer.status_code, answer.json()["details"][0]["reason"]


async def session_of(room: Room, person: Person, title: str = "") -> str:
    request = session_pb2.CreateSessionRequest(session_id=ids.uuid(), title=title)
    return (await room.sessions.CreateSession(request, metadata=person.metadata)).session.id


@pytest.mark.requirement("MCP-2", "ID-10")
async def test_a_token_is_needed_and_looked_at_each_time(room: Room, socket: Path) -> None:
    person = await room.register()
    api = await made(room, person, READ)
    assert await answered(socket) == (401, "TOKEN_MISSING")
    assert await answered(socket, "nonsense") == (401, "TOKEN_INVALID")
    assert await answered(socket, access(person)) == (200, "")
    assert await answered(socket, api.secret) == (200, "")
    revoke = identity_pb2.RevokeApiTokenRequest(api_token_id=api.api_token.id)
    await room.identity.RevokeApiToken(revoke, metadata=person.metadata)
    assert await answered(socket, api.secret) == (401, "TOKEN_REVOKED")


@pytest.mark.requirement("MCP-2")
async def test_pages_of_others_other_hosts_and_other_paths_are_refused(room: Room, socket: Path) -> None:
    token = access(await room.register())
    assert await answered(socket, token, origin=ORIGIN) == (200, "")
    assert await answered(socket, token, origin="https://evil.example") == (403, "CALLER_NOT_ALLOWED")
    assert await answered(socket, token, host="evil.example") == (403, "CALLER_NOT_ALLOWED")
    async with http(socket, token, **JSON) as client:
        assert (await client.post("http://127.0.0.1/mcp/more", json=PING)).status_code == 404
        assert [(await client.request(verb, URL)).status_code for verb in ("GET", "DELETE")] == [405, 405]
        assert (await client.post(URL, content=b"x" * 1_048_577)).status_code == 413
        unknown = await client.post(URL, json=PING, headers={"mcp-protocol-version": "1999-01-01"})
    assert unknown.status_code == 400
    assert "mcp-session-id" not in unknown.headers


@pytest.mark.requirement("MCP-2", "ID-10")
async def test_a_token_sees_and_uses_the_tools_of_its_scopes(room: Room, socket: Path) -> None:
    person = await room.register()
    reader = (await made(room, person, READ)).secret
    async with connected(socket, reader) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        refused = await client.call_tool("create_session", {"title": "no"})
    assert {"list_sessions", "get_messages", "search_messages", "get_context", "get_turn"} == names
    assert refused.is_error
    assert told(refused)["error"]["reason"] == "SCOPE_MISSING"
    assert told(refused)["error"]["metadata"]["scope"] == "chat"
    writer = (await made(room, person, CHAT)).secret
    async with connected(socket, writer) as client:
        assert not (await client.session.call_tool("create_session", {"title": "yes"})).is_error


@pytest.mark.requirement("MCP-2")
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_sessions_and_context_are_tools_and_resources(room: Room, socket: Path, mode: str) -> None:
    person = await room.register()
    async with connected(socket, access(person), mode) as client:
        session = told(await client.call_tool("create_session", {"title": "Trip"}))["session"]["id"]
        items = {"colour": "blue", "size": {"cm": 3}}
        written = await client.call_tool("update_context", {"items": items})
        resources = {str(each.uri) for each in (await client.list_resources()).resources}
        templates = {
            each.uri_template for each in (await client.list_resource_templates()).resource_templates
        }

        async def read(uri: str) -> Any:
            return json.loads(text(await client.read_resource(uri)))

        assert (await read(f"mesh://sessions/{session}"))["session"]["title"] == "Trip"
        assert await read(f"mesh://sessions/{session}/messages") == {}
        assert [each["value"] for each in (await read("mesh://context/colour"))["items"]] == ["blue"]
        assert len((await read("mesh://context"))["items"]) == 2
        for missing in ("mesh://context/none", "mesh://nothing", "file:///etc/passwd"):
            with pytest.raises(MCPError) as caught:
                await client.read_resource(missing)
            assert caught.value.data["reason"] in ("CONTEXT_ITEM_NOT_FOUND", "NOT_SERVED")
    assert not written.is_error
    assert resources == {"mesh://context", f"mesh://sessions/{session}"}
    assert "mesh://sessions/{session_id}/messages" in templates


@pytest.mark.requirement("MCP-2")
async def test_a_faulty_argument_is_told_with_its_field(room: Room, socket: Path) -> None:
    async with connected(socket, access(await room.register())) as client:
        for arguments in ({"page_size": 500}, {"page": 1}, {"page_token": "x"}):
            result = await client.call_tool("list_sessions", arguments)
            assert result.is_error
            assert told(result)["error"]["reason"] in ("INVALID_FIELD", "PAGE_TOKEN_INVALID")
        deep = await client.call_tool("update_context", {"items": {"a": json.loads("[" * 200 + "]" * 200)}})
        assert told(deep)["error"]["reason"] in ("MALFORMED_MESSAGE", "INVALID_FIELD")
        bad = await client.call_tool("get_turn", {"turn": "x"})
        assert told(bad)["error"]["violations"][0]["field"] == "turn"
        with pytest.raises(MCPError):
            await client.session.call_tool("no_such_tool", {})
        with pytest.raises(MCPError) as caught:
            await client.list_resources(cursor="nonsense")
    assert caught.value.data["reason"] == "PAGE_TOKEN_INVALID"


@pytest.mark.requirement("MCP-2")
async def test_text_that_is_none_is_refused_as_that(room: Room, socket: Path) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call = {"name": "update_context", "arguments": {"items": {"a": "\ud800"}}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
    named = {"mcp-method": "tools/call", "mcp-name": "update_context", "mcp-protocol-version": "2026-07-28"}
    async with http(socket, access(await room.register()), **JSON) as client:
        half = await client.post(URL, content=body, headers=named)
        before = await client.post(URL, content=body)  # the handshake's revisions: no JSON at all
        deep = await client.post(URL, content=b"[" * 100_000)
    assert half.json()["result"]["structuredContent"]["error"]["reason"] == "MALFORMED_MESSAGE"
    assert [each.json()["error"]["code"] for each in (before, deep)] == [-32700, -32700]


@pytest.mark.requirement("MCP-2", "ID-10")
async def test_what_is_another_person_s_does_not_exist(room: Room, socket: Path) -> None:
    anna, ben = await room.register(), await room.register(email="ben@example.org")
    session = await session_of(room, anna, "Anna's")
    async with connected(socket, access(ben)) as client:
        listed = told(await client.call_tool("list_sessions", {}))
        resources = [str(each.uri) for each in (await client.list_resources()).resources]
        for name, arguments in (
            ("get_messages", {"session_id": session}),
            ("get_context", {"session_id": session}),
            ("send_message", {"session_id": session, "text": "hi"}),
            ("get_turn", {"turn": f"{session}.{ids.uuid()}.1"}),
            ("cancel_turn", {"turn": f"{session}.{ids.uuid()}.1"}),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error
            assert told(result)["error"]["reason"] in ("SESSION_NOT_FOUND", "TURN_NOT_FOUND")
        for part in ("", "/messages", "/context"):
            with pytest.raises(MCPError) as caught:
                await client.read_resource(f"mesh://sessions/{session}{part}")
            assert caught.value.data["reason"] == "SESSION_NOT_FOUND"
    assert listed == {}
    assert resources == ["mesh://context"]


@pytest.mark.requirement("MCP-2")
async def test_lists_come_in_pages(room: Room, socket: Path) -> None:
    person = await room.register()
    made_here = {await session_of(room, person) for _ in range(53)}
    async with connected(socket, access(person)) as client:
        first = await client.list_resources()
        second = await client.list_resources(cursor=first.next_cursor)
    uris = [str(each.uri) for each in (*first.resources, *second.resources)]
    assert second.next_cursor is None
    assert len(uris) == len(set(uris)) == 54
    assert {uri.rpartition("/")[2] for uri in uris} == {*made_here, "context"}


@pytest.mark.requirement("MCP-2")
async def test_each_request_is_one_line_of_the_log_without_content(
    room: Room, socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(socket, access(await room.register())) as client:
        caplog.clear()
        await client.session.call_tool("search_messages", {"query": "canary-of-the-query"})
    lines = [record.__dict__ for record in caplog.records if record.getMessage() == "call"]
    own = [line["fields"] for line in lines if line["fields"]["method"].startswith("mcp tools/call")]
    assert [(each["method"], each["code"]) for each in own] == [("mcp tools/call search_messages", "OK")]
    behind = [line["fields"] for line in lines if line["fields"]["method"].endswith("SearchMessages")]
    assert [each["request_id"] for each in behind] == [own[0]["request_id"]]
    assert "canary" not in str([record.__dict__ for record in caplog.records])


@pytest.mark.requirement("MCP-2")
async def test_a_room_that_stops_takes_its_socket_with_it(start: Start, socket: Path) -> None:
    async with start(mcp_listen=f"unix:{socket}") as room:
        assert await answered(socket, access(await room.register())) == (200, "")
        assert stat.S_IMODE(os.stat(socket).st_mode) == 0o600  # noqa: PTH116
    assert os.listdir(socket.parent) == []  # noqa: PTH208
