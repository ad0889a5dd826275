"""The door opened on its socket, and closed in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from chassis import telemetry
from chassis.boundary import Boundary
from chassis.serve import AddressUnsafe, Register, make_way
from chassis.tasks import Tasks
from context_svc.mcp_door.entry import Entry
from context_svc.mcp_door.loopback import Loopback
from context_svc.mcp_door.server import Desk
from context_svc.settings import ContextSettings

log = telemetry.logger(__name__)

LARGEST_BODY = 1024 * 1024
_GRACE = 5  # seconds in which open requests may end, once the turns behind them have
_AT_ONCE = 1024
_LOUD = ("mcp", "uvicorn", "sse_starlette")  # they log what clients sent; the boundary logs each request


@asynccontextmanager
async def opened(
    settings: ContextSettings, boundary: Boundary, services: Sequence[Register], version: str
) -> AsyncIterator[Callable[[], None]]:
    """Serve MCP while the block runs, where an address is set; what it gives lets nobody in any more.

    Raises AddressUnsafe, and RuntimeError when the address cannot be bound.
    """
    if not settings.mcp_listen:
        yield lambda: None
        return
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    desk = Desk(Loopback(boundary, services), boundary)
    sessions = StreamableHTTPSessionManager(
        desk.server(settings.server_name, version), stateless=True, max_request_body_size=LARGEST_BODY
    )
    entry = Entry(sessions.handle_request, boundary, settings.mcp_origins, settings.mcp_hosts)
    async with _running(sessions), _listening(_config(entry, settings)):
        log.info("serving mcp", address=settings.mcp_listen)
        yield entry.drain


@asynccontextmanager
async def _running(sessions: StreamableHTTPSessionManager) -> AsyncIterator[None]:
    """Run the SDK's side in a task of its own: what it opens must be closed by the task that opened it."""
    opened, over = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        async with sessions.run():
            opened.set()
            await over.wait()

    async with Tasks() as tasks:
        running = tasks.spawn("mcp sessions", run())
        await opened.wait()
        try:
            yield
        finally:
            over.set()
            await running


class _Listener(uvicorn.Server):
    """Hears no signals: the room does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _listening(config: uvicorn.Config) -> AsyncIterator[None]:
    config.load()
    listener = _Listener(config)
    listener.lifespan = config.lifespan_class(config)
    try:
        await listener.startup()
    except SystemExit as error:
        raise RuntimeError("the MCP address cannot be bound") from error
    socket = Path(config.uds) if config.uds else None
    if socket is not None:
        socket.chmod(0o600)
    async with Tasks() as tasks:
        running = tasks.spawn("serve mcp", listener.main_loop())
        try:
            yield
        finally:
            listener.should_exit = True
            await running
            await listener.shutdown()
            if socket is not None:
                socket.unlink(missing_ok=True)


def _config(entry: Entry, settings: ContextSettings) -> uvicorn.Config:
    kind, _, rest = settings.mcp_listen.partition(":")
    where: dict[str, object]
    if kind == "unix":
        make_way(Path(rest))
        where = {"uds": rest}
    elif settings.tls_dir is None:
        raise AddressUnsafe(f"{settings.mcp_listen} is reached over the network and has no certificate")
    else:
        where = {
            "host": kind,
            "port": int(rest),
            "ssl_certfile": settings.tls_dir / "context.pem",
            "ssl_keyfile": settings.tls_dir / "context.key",
            "ssl_ca_certs": str(settings.tls_dir / "ca.pem"),
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
        }
    return uvicorn.Config(
        entry,
        lifespan="off",
        ws="none",
        http="h11",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE,
        **where,  # type: ignore[arg-type]
    )
