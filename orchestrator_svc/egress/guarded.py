"""The way out for a client that brings its own HTTP: the same checked addresses, the same bounds."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import cache

import certifi
import httpcore
import httpcore2
import httpx2

from orchestrator_svc.egress.addresses import Address
from orchestrator_svc.egress.connector import Connector, Resolve
from orchestrator_svc.egress.failures import Refused


class _Sockets(httpcore.AsyncNetworkBackend):
    """The client's own sockets in the words of the connector."""

    def __init__(self) -> None:
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own parameter
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect. Raises httpcore's ConnectError."""
        try:
            made = await self._sockets.connect_tcp(host, port, timeout, local_address, socket_options)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise httpcore.ConnectError(str(error)) from error
        return made  # type: ignore[return-value]  # the same methods under another name


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects where the guard allows."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own parameter
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check, connect. Raises httpcore2's ConnectError and ConnectTimeout."""
        try:
            made = await self._connector.connect_tcp(host, port, timeout, local_address, socket_options)
        except httpcore.ConnectTimeout as error:
            raise httpcore2.ConnectTimeout(str(error)) from error
        except (httpcore.ConnectError, Refused) as error:
            raise httpcore2.ConnectError(str(error)) from error
        return made  # type: ignore[return-value]  # it is the client's own stream

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own parameter
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Never. Raises httpcore2's ConnectError."""
        raise httpcore2.ConnectError("sockets of this machine are private")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await httpcore2.AnyIOBackend().sleep(seconds)


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of one answer, up to a limit."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._left = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise httpx2.ReadError("the answer has more bytes than it may have")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    """Answers of bounded length, unpacked by nobody: a packed one is refused."""

    def __init__(self, connector: Connector, limit: int) -> None:
        context = _tls()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=16,
            max_keepalive_connections=4,
            keepalive_expiry=15.0,
            network_backend=_Backend(connector),
        )
        self._limit = limit

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request. Raises httpx2's own."""
        answer = await super().handle_async_request(request)
        if answer.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            await answer.aclose()
            raise httpx2.RemoteProtocolError("it answered in an encoding that was not asked for")
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Bounded(answer.stream, self._limit),
            extensions=answer.extensions,
        )


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())


def client(
    allows: Callable[[Address], bool], resolve: Resolve, *, headers: Mapping[str, str], limit: int
) -> httpx2.AsyncClient:
    """A client that connects to allowed addresses only, follows nothing and reads `limit` bytes of an answer."""
    return httpx2.AsyncClient(
        transport=_Transport(Connector(allows, resolve, _Sockets()), limit),
        headers={"Accept-Encoding": "identity", **headers},
        timeout=httpx2.Timeout(30.0, connect=5.0, read=None),
        follow_redirects=False,
        trust_env=False,
    )
