"""Asking over HTTP: one request, or a page behind its redirects, in bounded time and bytes.

No environment is read (no proxy, no netrc), no cookie is kept, nothing is followed that was not checked.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlencode

import certifi
import httpcore

from orchestrator_svc.egress.addresses import Address, is_for_operators, is_public
from orchestrator_svc.egress.connector import Connector, Resolve, is_own, resolve
from orchestrator_svc.egress.failures import Garbled, Refused, TooLarge, TooSlow, Unreachable
from orchestrator_svc.egress.target import Target, joined, target

T = TypeVar("T")

AGENT = "assistant-mesh/0.1 (a person's own assistant)"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What an answer may cost: bytes (packed and unpacked alike), and seconds from the name to the last byte."""

    bytes: int = 2 * 1024 * 1024
    seconds: float = 10.0
    connect_seconds: float = 5.0
    redirects: int = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer, unpacked. `url` is where it came from in the end; names of headers are in lower case."""

    status: int
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Line:
    """Connections of one kind: to the public web, or to one service."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def ask(
        self, where: Target, *, method: str, headers: Mapping[str, str], body: bytes | None, bounds: Bounds
    ) -> Reply:
        """One request and its whole answer. Raises EgressFailure."""
        try:
            return await _alone(self._ask(where, method, headers, body, bounds), bounds.seconds)
        except TimeoutError as error:
            raise TooSlow("no whole answer in time") from error
        except httpcore.TimeoutException as error:
            raise TooSlow("no whole answer in time") from error
        except httpcore.NetworkError as error:
            raise Unreachable("it cannot be reached") from error
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
            raise Garbled("what it sent is no answer") from error

    async def _ask(
        self, where: Target, method: str, headers: Mapping[str, str], body: bytes | None, bounds: Bounds
    ) -> Reply:
        told_first = {"User-Agent": AGENT, "Accept-Encoding": "gzip", "Host": _host(where)}
        url = httpcore.URL(
            scheme=where.scheme.encode(),
            host=where.host.encode(),
            port=where.port,
            target=where.path.encode(),
        )
        async with self._pool.stream(
            method,
            url,
            headers=[*told_first.items(), *headers.items()],
            content=body,
            extensions={"timeout": {"connect": bounds.connect_seconds}},
        ) as answer:
            told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            content = await _unpacked(answer.aiter_stream(), told, bounds.bytes)
            return Reply(status=answer.status, url=where.url, headers=told, body=content)


class Site:
    """One service, at the address that the operator gave."""

    def __init__(self, base: str, line: Line, *, private: bool = False) -> None:
        self._base = target(base.rstrip("/") + "/", ports=None, inner_names=private)
        self._line = line

    @property
    def host(self) -> str:
        """Its host, as a person knows it."""
        return self._base.host

    async def get(
        self,
        path: str,
        query: Mapping[str, str | int | float] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        bounds: Bounds = Bounds(),
    ) -> Reply:
        """Ask for `path` below the base. A redirect is an answer like any other. Raises EgressFailure."""
        where = self._at(path + (f"?{urlencode(query)}" if query else ""))
        return await self._line.ask(where, method="GET", headers=headers or {}, body=None, bounds=bounds)

    async def post(
        self, path: str, body: bytes, *, headers: Mapping[str, str], bounds: Bounds = Bounds()
    ) -> Reply:
        """Send `body` to `path` below the base. Raises EgressFailure."""
        return await self._line.ask(self._at(path), method="POST", headers=headers, body=body, bounds=bounds)

    def _at(self, path: str) -> Target:
        base = self._base
        whole = base.path + path.lstrip("/") if path else base.path.rstrip("/") or "/"
        return Target(scheme=base.scheme, host=base.host, port=base.port, path=whole)


class Web:
    """The public web, for pages that somebody names."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def page(self, url: str, *, accept: str, bounds: Bounds = Bounds()) -> Reply:
        """The page behind `url` and its redirects, each checked like the first. Raises EgressFailure."""
        where = target(url)
        try:
            async with asyncio.timeout(bounds.seconds):
                for _ in range(bounds.redirects + 1):
                    reply = await self._line.ask(
                        where, method="GET", headers={"Accept": accept}, body=None, bounds=bounds
                    )
                    location = reply.headers.get("location", "")
                    if reply.status not in _REDIRECTS or not location:
                        return reply
                    where = joined(where, location)
        except TimeoutError as error:
            raise TooSlow("no whole answer in time") from error
        raise Refused("it redirects too often")


class Egress:
    """Makes the ways out; `egress()` opens it and closes all of them."""

    def __init__(
        self,
        stack: AsyncExitStack,
        resolve: Resolve,
        own: Callable[[Address], bool],
        sockets: httpcore.AsyncNetworkBackend | None,
    ) -> None:
        self._stack = stack
        self._resolve = resolve
        self._own = own
        self._sockets = sockets

    async def web(self) -> Web:
        """The public web."""
        return Web(await self._line(self._is_public))

    async def site(self, base: str, *, private: bool = False) -> Site:
        """The service at `base`; with `private` it may be on this machine or network. Raises Refused."""
        line = await self._line(is_for_operators if private else self._is_public)
        return Site(base, line, private=private)

    def _is_public(self, address: Address) -> bool:
        return is_public(address) and not self._own(address)

    async def _line(self, allows: Callable[[Address], bool]) -> Line:
        pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=16,
            max_keepalive_connections=4,
            keepalive_expiry=15.0,
            network_backend=Connector(allows, self._resolve, self._sockets),
        )
        return Line(await self._stack.enter_async_context(pool))


@asynccontextmanager
async def egress(
    *,
    resolve: Resolve = resolve,
    own: Callable[[Address], bool] = is_own,
    sockets: httpcore.AsyncNetworkBackend | None = None,
) -> AsyncIterator[Egress]:
    """The ways out of this room, closed at the end of the block. The arguments are for tests."""
    async with AsyncExitStack() as stack:
        yield Egress(stack, resolve, own, sockets)


async def _alone(exchange: Coroutine[Any, Any, T], seconds: float) -> T:
    """Run an exchange in a task of its own, for at most `seconds`.

    A turn that ends may cancel an action twice. The second time would break the closing of the connection off and
    leave it open; here it reaches only the one who waits.
    """
    running = asyncio.ensure_future(exchange)
    running.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(running)
    except (asyncio.CancelledError, TimeoutError):
        running.cancel()
        await asyncio.wait((running,))
        raise


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())


def _host(where: Target) -> str:
    host = f"[{where.host}]" if ":" in where.host else where.host
    return host if where.port == {"http": 80, "https": 443}[where.scheme] else f"{host}:{where.port}"


async def _unpacked(chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit: int) -> bytes:
    """The content, unpacked as it comes: a small answer that unpacks into a large one ends at `limit`."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip"):
        raise Garbled("it answered in an encoding that was not asked for")
    unpack = zlib.decompressobj(wbits=31) if "gzip" in coding else None
    content, came = bytearray(), 0
    async for chunk in chunks:
        came += len(chunk)
        try:
            content += unpack.decompress(chunk, limit + 1 - len(content)) if unpack else chunk
        except zlib.error as error:
            raise Garbled("what it sent cannot be unpacked") from error
        if came > limit or len(content) > limit:
            raise TooLarge(f"it sent more than {limit // 1024} KiB")
    if unpack and not unpack.eof and came:
        raise Garbled("what it sent is cut off")
    return bytes(content)
