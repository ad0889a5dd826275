"""What a plugin with granted hosts reaches, and what it does not."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import httpcore
import pytest

from chassis.testing import SOON
from orchestrator_svc.egress.addresses import Address, is_public
from orchestrator_svc.egress.connector import Connector
from orchestrator_svc.egress.proxy import granted, proxy
from orchestrator_svc.plugins import cell as plugin_cell
from orchestrator_svc.plugins.cell import Code
from orchestrator_svc.plugins.manifest import Manifest
from orchestrator_svc.plugins.plugin import Plugin
from orchestrator_svc.sandbox.cell import find
from orchestrator_svc.tools.tool import Effect, Setting, ToolFailure
from tests.unit.orchestrator_svc.egress.forms import PUBLIC

HOSTS = ("api.granted.org", "*.below.org", "odd.org:8443", "inner.granted.org")
ASKS = '''
import http.client, os, socket, ssl, urllib.request
from urllib.parse import urlsplit
from mesh_plugin import action

@action()
def ask(host: str, port: int = 443) -> str:
    """Asks a host, through the way out that every library finds."""
    way = urlsplit(os.environ["HTTPS_PROXY"])
    line = http.client.HTTPConnection(way.hostname, way.port, timeout=10)
    line.set_tunnel(host, port)
    line.request("GET", "/")
    return line.getresponse().read().decode()

@action()
def straight(port: int) -> str:
    """Goes around it."""
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return "ESCAPED"
'''


@pytest.mark.requirement("TOOL-6")
@pytest.mark.parametrize(
    ("host", "port", "fits"),
    [
        ("api.granted.org", 443, True),
        ("api.granted.org", 80, False),
        ("odd.org", 8443, True),
        ("odd.org", 443, False),
        ("a.below.org", 443, True),
        ("below.org", 443, False),
        ("evilbelow.org", 443, False),
        ("api.granted.org.evil.org", 443, False),
        ("127.0.0.1", 443, False),
    ],
)
def test_a_host_is_granted_by_its_whole_name_and_port(host: str, port: int, fits: bool) -> None:
    assert granted(host, port, HOSTS) is fits


class Here(httpcore.AsyncNetworkBackend):
    """Connects to one server on this machine, whatever the address; says where it was to go."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own parameter
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.asked.append(host)
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self.port)


async def resolve(host: str, port: int) -> Sequence[Address]:
    return [ip_address("10.0.0.7" if host.startswith("inner") else PUBLIC)]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    here = Here(server.sockets[0].getsockname()[1])
    connector = Connector(is_public, resolve, here)
    monkeypatch.setattr(plugin_cell, "proxy", partial(proxy, connector=connector))
    async with server:
        yield here


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6")
async def test_a_plugin_reaches_the_hosts_of_its_manifest_and_nothing_else(
    tmp_path: Path, world: Here
) -> None:
    file = tmp_path / "asks.py"
    file.write_text(ASKS)
    sandbox = await find(os.environ["PATH"], accept_none=False)
    plugin = Plugin(
        name="asks", code=Code(path=file, hosts=HOSTS), manifest=Manifest(hosts=HOSTS), sandbox=sandbox
    )
    tools = {tool.name: tool for tool in await plugin.tools()}
    assert tools["ask"].effect is Effect.EFFECT  # it says nothing of itself and reaches the network

    async def told(name: str, **arguments: object) -> str:
        try:
            async with asyncio.timeout(4 * SOON.total_seconds()):
                return (await tools[name].run(json.dumps(arguments), Setting(now_us=1))).content
        except ToolFailure as error:
            return error.message

    assert await told("ask", host="api.granted.org") == "hello"
    assert world.asked == [str(PUBLIC)]
    assert "403" in await told("ask", host="elsewhere.org")
    assert "403" in await told("ask", host="api.granted.org", port=22)
    assert "403" in await told("ask", host="inner.granted.org")
    assert "refused" in await told("straight", port=world.port)
    assert world.asked == [str(PUBLIC)]
