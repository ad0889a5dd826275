"""How a server is reached: by HTTP through the egress guard, or as a program in a cell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import mcp_types
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from orchestrator_svc.egress import guarded
from orchestrator_svc.egress.addresses import Address, is_for_operators, is_public
from orchestrator_svc.egress.connector import is_own, resolve
from orchestrator_svc.egress.target import target
from orchestrator_svc.sandbox.cell import Cell, Sandbox, interpreter
from orchestrator_svc.servers.configuration import Server

MESSAGE_BYTES = 1024 * 1024
_SYSTEM_PROGRAMS = (Path("/usr"), Path("/bin"), Path("/sbin"), Path("/etc/alternatives"))
LIMITS = {
    "CPU": 3_600,
    "DATA": 1024 * 1024 * 1024,  # not AS: some runtimes reserve far more than they use
    "NPROC": 64,  # the kernel counts it for no process of root's; run the mesh as somebody else
    "NOFILE": 256,
    "FSIZE": 16 * 1024 * 1024,
    "CORE": 0,
}
_LIMITED = """import json, os, resource, sys
for name, most in json.loads(sys.argv[1]).items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
os.execvp(sys.argv[2], sys.argv[2:])"""
_PATH = "/usr/local/bin:/usr/bin:/bin"


@asynccontextmanager
async def over_http(server: Server, token: str) -> AsyncIterator[TransportStreams]:
    """A streamable HTTP server. Raises Refused for an address that it cannot have."""
    where = target(server.url, ports=None, inner_names=server.private)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    allows = is_for_operators if server.private else _is_public
    async with guarded.client(allows, resolve, headers=headers, limit=MESSAGE_BYTES) as client:
        opening = streamable_http_client(where.url, http_client=client, max_sse_event_size=MESSAGE_BYTES)
        async with opening as streams:
            yield streams


def _is_public(address: Address) -> bool:
    return is_public(address) and not is_own(address)


@asynccontextmanager
async def as_program(server: Server, token: str, sandbox: Sandbox) -> AsyncIterator[TransportStreams]:
    """A program that speaks lines of JSON. It sees the system's programs and the files that it was given."""
    shown = [*(each for each in _SYSTEM_PROGRAMS if each.exists()), *map(Path, server.files)]
    variables = {"PATH": _PATH, "HOME": "/tmp", "LANG": "C.UTF-8", **server.environment}  # noqa: S108
    if token and server.token_variable:
        variables[server.token_variable] = token
    cell = Cell(shown={each: str(each) for each in shown}, environment=variables, alone=False)
    command = (interpreter(), "-I", "-S", "-c", _LIMITED, json.dumps(LIMITS), *server.command)
    async with sandbox.run(command, cell, limit=MESSAGE_BYTES) as program:
        heard_in, heard = anyio.create_memory_object_stream[SessionMessage | Exception](16)
        told, told_out = anyio.create_memory_object_stream[SessionMessage](16)
        async with heard_in, heard, told, told_out, anyio.create_task_group() as group:
            group.start_soon(_hear, program, heard_in)
            group.start_soon(_tell, program, told_out)
            try:
                yield heard, told
            finally:
                group.cancel_scope.cancel()


async def _hear(
    program: asyncio.subprocess.Process,
    into: anyio.streams.memory.MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    """Its lines, until it ends or one is too long; then the session ends."""
    assert program.stdout is not None
    async with into:
        while True:
            try:
                line = await program.stdout.readline()
            except ValueError:  # longer than the limit
                return
            if not line:
                return
            try:
                message = mcp_types.jsonrpc_message_adapter.validate_json(line)
            except ValidationError as error:
                await into.send(error)
                continue
            await into.send(SessionMessage(message))


async def _tell(
    program: asyncio.subprocess.Process, told: anyio.streams.memory.MemoryObjectReceiveStream[SessionMessage]
) -> None:
    assert program.stdin is not None
    async for each in told:
        line = each.message.model_dump_json(by_alias=True, exclude_unset=True)
        try:
            program.stdin.write(line.encode() + b"\n")
            await program.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return
