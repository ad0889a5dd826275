"""httpx over aiohttp's connections: the same requests and failures, at a third of the work for each chunk.

httpx's own transport reads through httpcore, anyio and h11, all of them Python: 70 µs of processor time for a chunk
that comes alone. aiohttp parses HTTP/1.1 in C: 26 µs. Both were measured in one run (``make bench`` keeps the sum).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
from yarl import URL

# Among a request's extensions: a list, which gets an item where the request goes over a kept connection.
KEPT = "kept_connection"
MANY = 16  # answers at once; beyond them what comes is gathered
_GATHERED = 0.04  # seconds; the log waits longer between two of its flushes
_AT_ONCE = 4  # pieces of an answer that are never gathered: the first word is in them


class Transport(httpx.AsyncBaseTransport):
    """A pool of HTTP/1.1 connections that follows nothing, keeps no cookies and reads no environment.

    ``uds`` is a unix socket to reach the server through; ``idle_seconds`` how long a connection waits for its next
    request, with 0 each serves one. Closing an answer before its end closes its connection. Raises httpx's own errors.
    """

    def __init__(self, *, tls: ssl.SSLContext | None, uds: str | None, idle_seconds: float) -> None:
        self._tls = tls
        self._uds = uds
        self._idle_seconds = idle_seconds
        self._session: aiohttp.ClientSession | None = None
        self._answers = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is read by whoever takes it."""
        times = request.extensions.get("timeout", {})
        with _told_as_httpx(request):
            answer = await self._open().request(
                request.method,
                URL(str(request.url), encoded=True),
                data=request.content or None,
                headers=request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(sock_connect=times.get("connect"), sock_read=times.get("read")),
                trace_request_ctx=request.extensions.get(KEPT),
            )
        self._answers += 1
        return httpx.Response(
            answer.status, headers=answer.raw_headers, stream=_Body(answer, self, request), request=request
        )

    @property
    def crowded(self) -> bool:
        """Whether so many answers come at once that waking for each chunk of each would be most of the work."""
        return self._answers > MANY

    def ended(self) -> None:
        """One of the answers has been closed."""
        self._answers -= 1

    def _open(self) -> aiohttp.ClientSession:
        """The session; made at the first request, for it belongs to the loop that runs then."""
        if self._session is None:
            keeps: dict[str, Any] = (
                {"keepalive_timeout": self._idle_seconds} if self._idle_seconds else {"force_close": True}
            )
            connector = (
                aiohttp.UnixConnector(self._uds, limit=0, **keeps)
                if self._uds
                else aiohttp.TCPConnector(ssl=self._tls or True, limit=0, **keeps)
            )
            telling = aiohttp.TraceConfig()
            telling.on_connection_reuseconn.append(_kept)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx does that
                trace_configs=[telling],
            )
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    """What an answer's connection holds, as it comes: bytes that wait together are one piece."""

    def __init__(self, answer: aiohttp.ClientResponse, pool: Transport, request: httpx.Request) -> None:
        self._answer = answer
        self._pool = pool
        self._request = request
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _told_as_httpx(self._request):
            pieces = 0
            async for piece in self._answer.content.iter_any():
                yield piece
                pieces += 1
                if pieces >= _AT_ONCE and self._pool.crowded:
                    await asyncio.sleep(_GATHERED)

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._pool.ended()
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


async def _kept(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.append(True)


@contextmanager
def _told_as_httpx(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as slow:
        raise httpx.ConnectTimeout(str(slow), request=request) from slow
    except TimeoutError as slow:
        raise httpx.ReadTimeout(str(slow), request=request) from slow
    except aiohttp.ClientConnectorError as closed:
        raise httpx.ConnectError(str(closed), request=request) from closed
    except (
        aiohttp.ServerDisconnectedError,
        aiohttp.ClientResponseError,
        aiohttp.ClientPayloadError,
    ) as broken:
        raise httpx.RemoteProtocolError(str(broken), request=request) from broken
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as wrong:
        raise httpx.UnsupportedProtocol(str(wrong), request=request) from wrong
    except (aiohttp.ClientError, OSError) as broken:
        raise httpx.ReadError(str(broken), request=request) from broken
