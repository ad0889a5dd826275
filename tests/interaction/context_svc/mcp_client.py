"""The official SDK's client on a room's MCP socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.extension import ClientExtension
from mcp.client.streamable_http import streamable_http_client

URL = "http://127.0.0.1/mcp"


def http(socket: Path, token: str = "", **headers: str) -> httpx2.AsyncClient:
    """A bare HTTP client."""
    bearer = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=str(socket)), headers={**bearer, **headers}, timeout=20
    )


@asynccontextmanager
async def connected(
    socket: Path, token: str = "", mode: str = "2026-07-28", extensions: Sequence[ClientExtension] = ()
) -> AsyncIterator[Client]:
    """A client with this token."""
    async with (
        http(socket, token) as bare,
        Client(streamable_http_client(URL, http_client=bare), mode=mode, extensions=extensions) as client,
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
