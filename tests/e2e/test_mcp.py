"""The mesh as an MCP server: the official SDK's client, through Envoy, on both generations of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.house import House

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


@pytest.mark.parametrize("mode", GENERATIONS)
@pytest.mark.requirement("MCP-2", "EDGE-1", "CHAT-1")
async def test_a_client_lists_tools_and_talks_to_the_assistant(home: House, mode: str) -> None:
    async with connected(home, home.token(), mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        made = await client.call_tool("create_session", {"title": "By MCP"})
        session = made.structured_content["session"]["id"]
        said = await client.call_tool("send_message", {"session_id": session, "text": "hello"})
    assert {"send_message", "get_messages", "get_context", "action_calculate"} <= set(tools)
    assert said.structured_content["state"] == "finished"
    assert said.content[0].text == said.structured_content["answer"]
