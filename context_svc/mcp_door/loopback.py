"""The room's own calls, made from inside its process: through the same boundary as those that come over gRPC.

Request id, places, policy, caller, scopes, rules of the contract, deadline, failures and the log line are the
boundary's, so that no door can do more, or other, than the contract says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.rpc.status_pb2 import Status

from chassis.access import ANY_SCOPE
from chassis.boundary import Boundary
from chassis.crossing import REQUEST_ID, Handler
from chassis.errors import Told
from chassis.serve import Register
from chassis.status import DETAILS, Failure, from_status
from chassis.tasks import Tasks

Call: TypeAlias = Callable[[bytes, object], Awaitable[Any]]
_FRAMES = 64  # of one stream that wait here; then its source waits


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """Who asks, as their request said it: what a gRPC call would carry as metadata."""

    request_id: str
    metadata: tuple[tuple[str, str], ...]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The metadata of each call that is made for the visit."""
        return (*self.metadata, (REQUEST_ID, self.request_id))


class Refused(Told):
    """A call was refused, or failed; `failure` is what its caller may learn."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason or failure.message)
        self.failure = failure


class Loopback:
    """Calls by name, messages as bytes: whoever asks knows their types."""

    def __init__(self, boundary: Boundary, services: Sequence[Register]) -> None:
        self._boundary = boundary
        self._methods = _methods(services)

    def allows(self, method: str, scopes: frozenset[str]) -> bool:
        """Whether a caller with these scopes (none: all of them) may make the call."""
        policy = self._boundary.policies.get(method)
        if policy is None or not policy.served:
            return False
        return not scopes or policy.scope in scopes or policy.scope == ANY_SCOPE

    async def ask(self, visit: Visit, method: str, request: bytes) -> bytes:
        """Make a call with one answer. Raises Refused."""
        handler = await self._handler(method)
        call = cast("Call", handler.unary_unary)
        return cast("bytes", await call(request, _Inside(visit)))

    async def stream(self, visit: Visit, method: str, request: bytes) -> AsyncGenerator[bytes, None]:
        """Make a call with many answers; closing the iterator ends it. Raises Refused."""
        handler = await self._handler(method)
        frames: asyncio.Queue[bytes | None] = asyncio.Queue(_FRAMES)

        async def run() -> None:
            try:
                await cast("Call", handler.unary_stream)(request, _Inside(visit, frames))
            finally:
                await frames.put(None)

        async with Tasks() as tasks:
            task = tasks.spawn("a call from inside", _settled(run()))
            while (frame := await frames.get()) is not None:
                yield frame
            refused = await task
            if refused is not None:
                raise refused

    async def _handler(self, method: str) -> Handler:
        async def find(details: grpc.HandlerCallDetails) -> Handler | None:
            return self._methods.get(method)

        return await self._boundary.intercept_service(find, _Details(method))


async def _settled(run: Any) -> Refused | None:
    try:
        await run
    except Refused as refused:
        return refused
    return None


@dataclass(frozen=True, slots=True)
class _Details(grpc.HandlerCallDetails):
    """Which method is asked for."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class _Inside:
    """What the boundary asks of a call's context."""

    def __init__(self, visit: Visit, frames: asyncio.Queue[bytes | None] | None = None) -> None:
        self._visit = visit
        self._frames = frames

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._visit.headers

    def set_trailing_metadata(self, metadata: object) -> None:
        """Nobody reads it here."""

    async def send_initial_metadata(self, metadata: object) -> None:
        """Nobody waits for it here."""

    def time_remaining(self) -> None:
        """The policy's deadline stands."""

    def peer(self) -> str:
        return "inside"

    async def write(self, frame: bytes) -> None:
        assert self._frames is not None
        await self._frames.put(frame)

    async def abort(
        self, code: grpc.StatusCode, message: str, trailing: Sequence[tuple[str, str | bytes]]
    ) -> NoReturn:
        status = next(value for key, value in trailing if key == DETAILS)
        assert isinstance(status, bytes)
        raise Refused(from_status(Status.FromString(status)))


class _Collector:
    """Takes services as a server would, and keeps their methods by name."""

    def __init__(self) -> None:
        self.methods: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same methods come by name too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


def _methods(services: Sequence[Register]) -> Mapping[str, Handler]:
    collector = _Collector()
    for register in services:
        register(cast("grpc.aio.Server", collector))
    return collector.methods
