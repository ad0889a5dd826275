"""Servers on this machine, made with the official kit, and some that nobody should trust."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp_types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings

Listing = Callable[[], list[mcp_types.Tool]]


def tool(name: str = "find", description: str = "Finds notes.", **rules: Any) -> mcp_types.Tool:
    schema = {"type": "object", "properties": {"words": {"type": "string"}}}
    return mcp_types.Tool(**{"name": name, "description": description, "input_schema": schema, **rules})


class Odd:
    """A server whose tools and answers the test chooses."""

    def __init__(self) -> None:
        self.tools: list[mcp_types.Tool] = [tool()]
        self.answer = "found"
        self.calls: list[str] = []
        self.authorization: list[str] = []
        self.hanging = asyncio.Event()

    async def list_tools(self, context: Any, params: Any) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=self.tools)

    async def call_tool(self, context: Any, params: Any) -> mcp_types.CallToolResult:
        self.calls.append(params.name)
        if params.name == "hangs":
            await self.hanging.wait()
        return mcp_types.CallToolResult(content=[mcp_types.TextContent(type="text", text=self.answer)])

    def app(self) -> Any:
        server = Server("odd", on_list_tools=self.list_tools, on_call_tool=self.call_tool)
        inner = server.streamable_http_app(
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
        )

        async def noting(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                told = dict(scope["headers"]).get(b"authorization", b"").decode()
                self.authorization.append(told)
            await inner(scope, receive, send)

        return noting


async def redirecting(scope: Any, receive: Any, send: Any) -> None:
    """Sends everybody to the metadata service."""
    if scope["type"] != "http":
        return
    location = (b"location", b"http://169.254.169.254/latest/meta-data")
    await send({"type": "http.response.start", "status": 307, "headers": [location]})
    await send({"type": "http.response.body", "body": b""})


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Takes the connection and never answers."""
    if scope["type"] == "http":
        await asyncio.Event().wait()


async def garbled(scope: Any, receive: Any, send: Any) -> None:
    """Answers what is no JSON."""
    if scope["type"] != "http":
        return
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": 200, "headers": [kind]})
    await send({"type": "http.response.body", "body": b"<html>"})


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The address at which the application is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = app in (redirecting, silent, garbled)
        config = uvicorn.Config(
            app,
            log_level="critical",
            lifespan="off" if plain else "auto",
            timeout_graceful_shutdown=0,
            ws="none",
        )
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.wait((running,), timeout=5)
            running.cancel()
