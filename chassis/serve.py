"""A room on its sockets: opened, drained and closed in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import uvloop

from chassis import failpoints, reflection, telemetry
from chassis.boundary import Boundary
from chassis.certificates import Certificates
from chassis.health import Health
from chassis.settings import environment

log = telemetry.logger(__name__)

Register: TypeAlias = Callable[[grpc.aio.Server], None]
Drain: TypeAlias = Callable[[], Awaitable[None]]

PUBLIC_MESSAGE = 4 * 1024 * 1024
INTERNAL_MESSAGE = 16 * 1024 * 1024
_MINUTE_MS = 60_000
_LAST_WORDS = 0.5  # seconds
_LEAST_GRACE = 2.0  # seconds
_SWITCH_SECONDS = 0.0005  # the database's thread waits that long for the interpreter, not Python's 5 ms


def _options(max_message: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", max_message),
        # Above the 16 KiB that the edge lets through: what is too large for gRPC it refuses with a list of all headers.
        ("grpc.max_metadata_size", 32 * 1024),
        ("grpc.absolute_max_metadata_size", 32 * 1024),
        ("grpc.keepalive_time_ms", _MINUTE_MS),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_connection_age_ms", 30 * _MINUTE_MS),
        ("grpc.max_connection_age_grace_ms", 70 * _MINUTE_MS),  # longer than the longest stream
        ("grpc.so_reuseport", 0),
    ]


class AddressUnsafe(Exception):
    """Others than the mesh could reach an address that a room is to serve on."""


class Server:
    """A server that runs. Leaving its block stops it; whoever heard the signal may do so before."""

    def __init__(self, server: grpc.aio.Server, health: Health, drain: Drain | None) -> None:
        self._server = server
        self._health = health
        self._drain = drain
        self._stopping: asyncio.Future[None] | None = None

    async def stop(self, grace: timedelta) -> None:
        """Say NOT_SERVING, run the room's drain hook, let open calls end, cut the rest.

        Hook and calls have `grace` together, but the calls at least a moment.
        """
        if self._stopping is not None:
            return await asyncio.shield(self._stopping)
        loop = asyncio.get_running_loop()
        self._stopping, began = loop.create_future(), loop.time()
        try:
            self._health.drain()
            if self._drain is not None:
                await self._drain()
        finally:
            left = max(
                grace.total_seconds() - (loop.time() - began), min(_LEAST_GRACE, grace.total_seconds())
            )
            await self._server.stop(left)
            self._stopping.set_result(None)


@asynccontextmanager
async def serving(
    *,
    addresses: Sequence[str],
    services: Sequence[Register],
    service_names: Sequence[str],
    boundary: Boundary,
    health: Health,
    descriptors: bytes | None = None,
    with_reflection: bool = True,
    certificates: Certificates | None = None,
    bare_tcp: bool = False,
    max_message: int = PUBLIC_MESSAGE,
    socket_mode: int = 0o600,
    drain: Drain | None = None,
    grace: timedelta = timedelta(seconds=5),
) -> AsyncIterator[Server]:
    """Serve `services` at ``unix:/path`` and ``host:port`` addresses while the block runs.

    Each of `service_names` and the process itself become SERVING when the sockets are open. A socket's folder
    is made with mode 0700 when missing, a stale socket is removed. A ``host:port`` is served with both sides'
    certificates; without any it is refused, unless a test says `bare_tcp`. Raises AddressUnsafe for that and for
    a socket in a folder that others can enter, RuntimeError when an address cannot be bound.
    """
    server = grpc.aio.server(interceptors=(boundary,), options=_options(max_message))
    for register in (*services, health.register):
        register(server)
    if descriptors is not None and with_reflection:
        reflection.register(server, descriptors)
    for address in addresses:
        _bind(server, address, certificates, bare_tcp=bare_tcp)
    await server.start()
    for path in filter(None, map(_socket, addresses)):
        path.chmod(socket_mode)
    for name in ("", *service_names):
        health.set(name, True)
    running = Server(server, health, drain)
    log.info("serving", addresses=", ".join(addresses))
    try:
        yield running
    finally:
        await running.stop(grace)


def _socket(address: str) -> Path | None:
    kind, _, path = address.partition(":")
    return Path(path) if kind == "unix" else None


def _bind(
    server: grpc.aio.Server, address: str, certificates: Certificates | None, *, bare_tcp: bool
) -> None:
    path = _socket(address)
    if path is not None:
        make_way(path)
        server.add_insecure_port(address)
    elif certificates is not None:
        server.add_secure_port(address, certificates.for_server())
    elif bare_tcp:
        server.add_insecure_port(address)
    else:
        raise AddressUnsafe(f"{address} is reached over the network and has no certificate")


def make_way(path: Path) -> None:
    """A private folder for the socket, and nothing in its place. Raises AddressUnsafe."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.stat()
    if status.st_mode & 0o077 or status.st_uid != os.getuid():
        raise AddressUnsafe(f"{path.parent} can be entered by others: chmod 700")
    if path.is_socket():
        path.unlink()


async def run_until_signal(
    app: AbstractAsyncContextManager[Server | Sequence[Server]], *, grace: timedelta = timedelta(seconds=20)
) -> None:
    """Run `app` until SIGTERM or SIGINT, then stop its servers within `grace` and close it in reverse.

    A second signal ends the process at once: what was acknowledged is on the disk.
    """
    told = asyncio.Event()

    def hear(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)
    async with app as running:
        await told.wait()
        log.info("draining", grace_seconds=grace.total_seconds())
        servers = [running] if isinstance(running, Server) else running
        await asyncio.gather(*(server.stop(grace) for server in servers))


def stop_soon() -> None:
    """End this process as SIGTERM does, once what it is answering is out; its supervisor starts it again."""
    asyncio.get_running_loop().call_later(_LAST_WORDS, os.kill, os.getpid(), signal.SIGTERM)


def main(program: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a room's program on uvloop."""
    failpoints.arm(environment())
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(program())
