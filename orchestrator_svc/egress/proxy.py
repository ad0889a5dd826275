"""A proxy for programs in cells: a unix socket of their own, through which they reach the hosts they were granted.

It speaks CONNECT and nothing else: what goes through is the program's own TLS or HTTP, to a checked address.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpcore

from orchestrator_svc.egress.addresses import Address, is_public
from orchestrator_svc.egress.connector import Connector, Resolve, is_own, resolve
from orchestrator_svc.egress.failures import EgressFailure, Refused
from orchestrator_svc.egress.target import target

_HEAD_BYTES = 8 * 1024
_HEAD_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
_CHUNK = 64 * 1024
_AT_ONCE = 8
BYTES = 32 * 1024 * 1024  # that may come in or go out over one connection


def granted(host: str, port: int, hosts: Collection[str]) -> bool:
    """Whether `hosts` names the host: `name`, `name:port`, or `*.name` for what is below it; 443 without a port."""
    for each in hosts:
        name, _, wanted = each.partition(":")
        fits = host.endswith(name[1:]) if name.startswith("*.") else host == name
        if fits and port == int(wanted or 443):
            return True
    return False


class Proxy:
    """Lets connections through to the granted hosts."""

    def __init__(self, hosts: Collection[str], connector: Connector) -> None:
        self._hosts = hosts
        self._connector = connector
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a program."""
        self._open += 1
        try:
            await self._through(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # either side hung up, or said what is no request
        finally:
            self._open -= 1
            writer.close()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        try:
            if self._open > _AT_ONCE:
                raise Refused("too many connections at once")
            stream = await self._connected(head)
        except (EgressFailure, httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            status = "403 Forbidden" if isinstance(error, Refused) else "502 Bad Gateway"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nX-Reason: {error}\r\n\r\n".encode())
            await writer.drain()
            return
        try:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await writer.drain()
            ways = [asyncio.ensure_future(_out(reader, stream)), asyncio.ensure_future(_in(stream, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in ways:
                    each.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            await stream.aclose()

    async def _connected(self, head: bytes) -> httpcore.AsyncNetworkStream:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or words[0] != "CONNECT":
            raise Refused("only CONNECT is understood")
        where = target(f"https://{words[1]}", ports=None)
        if not granted(where.host, where.port, self._hosts):
            raise Refused("the manifest does not name this host")
        return await self._connector.connect_tcp(where.host, where.port, _CONNECT_SECONDS)


async def _out(reader: asyncio.StreamReader, stream: httpcore.AsyncNetworkStream) -> None:
    sent = 0
    with suppress(httpcore.NetworkError):
        while (chunk := await reader.read(_CHUNK)) and (sent := sent + len(chunk)) <= BYTES:
            await stream.write(chunk)


async def _in(stream: httpcore.AsyncNetworkStream, writer: asyncio.StreamWriter) -> None:
    came = 0
    with suppress(httpcore.NetworkError, ConnectionError):
        while (chunk := await stream.read(_CHUNK)) and (came := came + len(chunk)) <= BYTES:
            writer.write(chunk)
            await writer.drain()


@asynccontextmanager
async def proxy(
    hosts: Collection[str], *, resolve: Resolve = resolve, connector: Connector | None = None
) -> AsyncIterator[Path]:
    """The socket of a proxy to these hosts; closed, with what goes through it, at the end of the block."""
    serving = Proxy(hosts, connector or Connector(_is_public, resolve))
    with tempfile.TemporaryDirectory(prefix="mesh-") as folder:
        place = Path(folder) / "out"
        connections: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await serving.serve(reader, writer)
            finally:
                connections.discard(task)

        server = await asyncio.start_unix_server(accept, place, limit=_HEAD_BYTES)
        try:
            yield place
        finally:
            server.close()
            for each in tuple(connections):
                each.cancel()
            await asyncio.gather(*connections, return_exceptions=True)


def _is_public(address: Address) -> bool:
    return is_public(address) and not is_own(address)
