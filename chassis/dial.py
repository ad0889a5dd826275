"""Calling another room: its channel adds this room's token, the request id and a deadline to every call.

The channel is wrapped instead of intercepted: grpc.aio runs an interceptor in a task of its own per call, and
a queue per request stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import grpc

from chassis import call
from chassis.auth import RoomIdentity
from chassis.certificates import Certificates
from chassis.crossing import REQUEST_ID
from chassis.errors import DeadlineExceeded
from chassis.keys import KeyRefused

MARGIN = timedelta(milliseconds=200)  # kept back, so that this room can still answer for the other
_MAX_MESSAGE = 16 * 1024 * 1024

Serializer: TypeAlias = Callable[[Any], bytes] | None
Deserializer: TypeAlias = Callable[[bytes], Any] | None


class Cancellable(Protocol):
    """Any call of a stream."""

    def cancel(self) -> bool:
        """End the call; without effect on one that has ended."""


C = TypeVar("C", bound=Cancellable)


@asynccontextmanager
async def streaming(started: C) -> AsyncIterator[C]:
    """Hold a call and cancel it on the way out: grpc.aio never cancels one that is merely dropped."""
    try:
        yield started
    finally:
        started.cancel()


def open_channel(
    address: str,
    *,
    identity: RoomIdentity | None,
    callee: str,
    max_message: int = _MAX_MESSAGE,
    cap: timedelta = timedelta(seconds=30),
    certificates: Certificates | None = None,
) -> grpc.aio.Channel:
    """A channel to the room `callee` at ``unix:/path``, ``host:port`` or ``ipv4:a:port,b:port``.

    Calls go to every address of the name, or of the list, in turn.

    A unary call gets its own `timeout` (`cap` without one), or the current call's remaining time less 200 ms
    if that is less; it raises DeadlineExceeded when nothing is left. A stream has only the `timeout` it asks
    for. Nothing is retried. A ``host:port`` is dialled with `certificates`, and only who shows one of `callee` is
    believed to be it. Raises KeyRefused for a room without any: its token is not sent over a bare line. A client
    that is no room (`identity=None`) may dial the mesh's own door without.
    """
    options = _options(max_message)
    if address.startswith("unix:"):
        return _Dialled(grpc.aio.insecure_channel(address, options), identity, callee, cap)
    target = address if address.startswith(("ipv4:", "ipv6:")) else f"dns:///{address}"
    if certificates is None and identity is None:
        return _Dialled(grpc.aio.insecure_channel(target, options), None, callee, cap)
    if certificates is None:
        raise KeyRefused(f"{callee} is reached over the network and this room has no certificate")
    options.append(("grpc.ssl_target_name_override", callee))
    inner = grpc.aio.secure_channel(target, certificates.for_channel(), options)
    return _Dialled(inner, identity, callee, cap)


def _options(max_message: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", max_message),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.enable_retries", 0),
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.use_local_subchannel_pool", 1),  # its connection and its backoff are this channel's own
    ]


class _Dialled(grpc.aio.Channel):
    """A channel whose calls carry what `open_channel` promises."""

    def __init__(
        self, inner: grpc.aio.Channel, identity: RoomIdentity | None, callee: str, cap: timedelta
    ) -> None:
        self._inner = inner
        self._identity = identity
        self._callee = callee
        self._cap = cap

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        **_: Any,
    ) -> Any:
        """A call with one request and one answer."""
        return self._unary(self._inner.unary_unary(method, request_serializer, response_deserializer))

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        **_: Any,
    ) -> Any:
        """A call with many requests and one answer; its deadline is its own."""
        return self._stream(self._inner.stream_unary(method, request_serializer, response_deserializer))

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        **_: Any,
    ) -> Any:
        """A call with one request and many answers."""
        return self._stream(self._inner.unary_stream(method, request_serializer, response_deserializer))

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        **_: Any,
    ) -> Any:
        """A call with many requests and many answers."""
        return self._stream(self._inner.stream_stream(method, request_serializer, response_deserializer))

    def _unary(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def begin(request: Any, *, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
            return start(request, timeout=self._timeout(timeout), metadata=self._metadata(metadata), **rest)

        return begin

    def _stream(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def begin(
            request: Any = None, *, timeout: float | None = None, metadata: Any = None, **rest: Any
        ) -> Any:
            return start(request, timeout=timeout, metadata=self._metadata(metadata), **rest)

        return begin

    def _timeout(self, asked: float | None) -> float:
        limits = [self._cap.total_seconds()] if asked is None else [asked]
        serving = call.current_or_none()
        if serving is not None and (left := serving.remaining()) is not None:
            limits.append((left - MARGIN).total_seconds())
        seconds = min(limits)
        if seconds <= 0:
            raise DeadlineExceeded("no time left to ask another room")
        return seconds

    def _metadata(self, given: Any) -> tuple[tuple[str, str | bytes], ...]:
        added: list[tuple[str, str | bytes]] = list(given or ())
        if self._identity is not None:
            added.append(("authorization", f"Bearer {self._identity.token(self._callee)}"))
        serving = call.current_or_none()
        if serving is not None:
            added.append((REQUEST_ID, serving.request_id))
        return tuple(added)

    async def close(self, grace: float | None = None) -> None:
        """Close the connection, and cancel what still runs after `grace` seconds."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the connection."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state is another one."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when connected."""
        await self._inner.channel_ready()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)
