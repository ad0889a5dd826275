"""One server's session, held open: what it offers, and calls of its tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import mcp_types
from mcp import Client, MCPError
from mcp.client._transport import TransportStreams
from mcp_types import Implementation

from orchestrator_svc.errors import Reason
from orchestrator_svc.sandbox.cell import NoSandbox, Sandbox
from orchestrator_svc.servers import transport, wares
from orchestrator_svc.servers.configuration import Server
from orchestrator_svc.servers.wares import Ware
from orchestrator_svc.tools.tool import RESULT_BYTES, Output, ToolFailure

CONNECT_SECONDS = 15.0
_PAGES = 20


class ServerDown(Exception):
    """The server cannot be used. `str()` of it says why, for a person."""


class Session:
    """An open session."""

    def __init__(self, name: str, server: Server, client: Client) -> None:
        self._name = name
        self._server = server
        self._client = client

    async def wares(self) -> Sequence[Ware]:
        """What it offers now. Raises ServerDown, also when it offers more than 256 tools."""
        found: list[mcp_types.Tool] = []
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self._client.list_tools(cursor=cursor, cache_mode="refresh")
            found += page.tools
            if len(found) > wares.TOOLS:
                raise ServerDown(f"it offers more than {wares.TOOLS} tools")
            if not page.next_cursor:
                return wares.wares(self._name, self._server, found)
            cursor = page.next_cursor
        raise ServerDown("its list of tools has no end")

    async def call(self, ware: Ware, arguments: dict[str, Any]) -> Output:
        """Call a tool. Raises ToolFailure, and whatever the broken connection raises."""
        seconds = self._server.timeout
        try:
            async with asyncio.timeout(seconds):
                result = await self._client.call_tool(ware.own_name, arguments, read_timeout_seconds=seconds)
            told = wares.content(result)
        except TimeoutError as error:
            raise self._slow() from error
        except wares.TooMuch as error:
            message = f"{self._name} answers more than {RESULT_BYTES // 1024} KiB."
            raise ToolFailure(message, reason=Reason.RESULT_TOO_LARGE) from error
        except MCPError as error:
            raise ToolFailure(f"{self._name} refuses: {error.error.message[:500]}") from error
        if result.is_error:
            raise ToolFailure(told[:2_000] or f"{self._name} failed.")
        return Output(content=told)

    def _slow(self) -> ToolFailure:
        return ToolFailure(
            f"{self._name} does not answer in time.", reason=Reason.PROVIDER_TIMEOUT, retryable=True
        )


@asynccontextmanager
async def session(
    name: str, server: Server, token: str, sandbox: Sandbox | NoSandbox
) -> AsyncIterator[Session]:
    """The session with a server, closed at the end of the block. Raises ServerDown.

    It asks nothing of us that it gets: no sampling, no roots, no questions to the person.
    """
    client = Client(
        _reached(server, token, sandbox),
        client_info=Implementation(name="assistant-mesh", version="0.1"),
        read_timeout_seconds=max(server.timeout, CONNECT_SECONDS),
        cache=None,
    )
    async with client:
        yield Session(name, server, client)


def _reached(
    server: Server, token: str, sandbox: Sandbox | NoSandbox
) -> AbstractAsyncContextManager[TransportStreams]:
    if server.url:
        return transport.over_http(server, token)
    if isinstance(sandbox, NoSandbox):
        raise ServerDown(str(sandbox))
    return transport.as_program(server, token, sandbox)
