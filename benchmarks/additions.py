"""What a call of a plugin and of a server's tool costs, beside what it cannot cost less than."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import MCPServer

from benchmarks.rows import Row
from orchestrator_svc.plugins.cell import Code
from orchestrator_svc.plugins.manifest import Manifest
from orchestrator_svc.plugins.plugin import Plugin
from orchestrator_svc.sandbox.cell import NoSandbox, find, interpreter
from orchestrator_svc.servers.configuration import Server
from orchestrator_svc.servers.session import session
from orchestrator_svc.tools.tool import Setting

_TIMES = 30
_PLUGIN = (
    'from mesh_plugin import action\n@action()\ndef echo(text: str) -> str:\n    "Echoes."\n    return text\n'
)


async def plugin_call() -> Row:
    """A call of a plugin, process and sandbox included, over a bare start of the same Python."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "echo.py"
        file.write_text(_PLUGIN)
        sandbox = await find(os.environ["PATH"], accept_none=False)
        plugin = Plugin(name="echo", code=Code(path=file), manifest=Manifest(), sandbox=sandbox)
        [tool] = await plugin.tools()
        called = await _median(lambda: tool.run('{"text":"hello"}', Setting(now_us=1)))
    bare = await _median(_bare_start)
    detail = f"{called:.1f} ms a call; a bare start of Python {bare:.1f} ms"
    name = "plugin call over a bare start of Python"
    return Row(name=name, value=called / bare, unit="x", target="", met=None, detail=detail)


async def server_call() -> Row:
    """A call of a tool of a streamable HTTP server on this machine, the kit's own on both sides."""
    server = MCPServer("echo", log_level="ERROR")
    server.add_tool(_echo, name="echo", description="Echoes.")
    async with served(server) as url:
        wanted = Server(url=url, private=True)
        async with session("echo", wanted, "", NoSandbox("not needed")) as opened:
            [ware] = await opened.wares()
            called = await _median(lambda: opened.call(ware, {"text": "hello"}))
    return Row(
        name="MCP tool call over HTTP",
        value=called,
        unit="ms",
        target="",
        met=None,
        detail="server in the same process",
    )


@asynccontextmanager
async def served(server: MCPServer) -> AsyncIterator[str]:
    """Serve it on this machine, in this process; its address."""
    config = uvicorn.Config(server.streamable_http_app(), port=0, log_level="critical", ws="none")
    serving = uvicorn.Server(config)
    running = asyncio.ensure_future(serving.serve())
    while not serving.started:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0.01)
    port = serving.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        serving.should_exit = serving.force_exit = True
        await running


def _echo(text: str) -> str:
    return text


async def _bare_start() -> None:
    program = await asyncio.create_subprocess_exec(interpreter(), "-I", "-S", "-c", "")
    await program.wait()


async def _median(work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds, the median of thirty after three."""
    took: list[float] = []
    for _ in range(_TIMES + 3):
        began = time.perf_counter()
        await work()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took[3:])
