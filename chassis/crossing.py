"""One method's way through the boundary: each step in its order, for unary calls and streams alike."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeAlias

import grpc

from chassis import ids
from chassis.access import Audience, Policy
from chassis.call import Call, Caller, RoomCaller, User, entered
from chassis.errors import (
    CallerNotAllowed,
    DeadlineExceeded,
    InvalidRequest,
    MalformedMessage,
    NotServed,
    ServiceError,
)
from chassis.opening import Opening
from chassis.status import DETAILS, to_status
from chassis.tasks import Tasks
from chassis.validation import violations

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # quoted: generic for the checker only
Behaviour: TypeAlias = Callable[[Any, Context], Any]
Identify: TypeAlias = Callable[[], Awaitable[None]]

REQUEST_ID = "x-request-id"
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9_-]{8,64}")
_FOREVER = timedelta(days=365).total_seconds()  # grpcio reports a missing deadline as a date far away


class Authenticates(Protocol):
    """Finds out who calls; `chassis.auth.Authenticator` does it with tokens."""

    def caller(self, metadata: Metadata, policy: Policy) -> Caller | None:
        """The caller, None where anyone may call. Raises the ServiceError that refuses the call."""


class House(Protocol):
    """What all methods of a server share: the `chassis.boundary.Boundary`."""

    authenticator: Authenticates
    domain: str
    in_band: frozenset[str]
    tasks: Tasks

    def place(self, streaming: bool) -> AbstractContextManager[None]:
        """Take one of the places for calls at once. Raises Overloaded when there is none."""

    def recorded(self, method: str, record: Record) -> AbstractContextManager[None]:
        """Count the call and log its one line when it ends."""

    def public(self, error: Exception, record: Record) -> ServiceError:
        """What the caller may learn of a failure."""


@dataclass(kw_only=True, slots=True)
class Record:
    """What the log line says of one call; filled in as the call goes."""

    request_id: str
    code: str = grpc.StatusCode.OK.name
    reason: str = ""
    caller: str = "none"
    why: str = ""


class Crossing:
    """One method's way through the boundary."""

    def __init__(self, boundary: House, method: str, policy: Policy | None, inner: Handler) -> None:
        self.inner = inner
        self._boundary = boundary
        self._method = method
        self._policy = policy
        self._streaming = any(_streaming(inner))
        self._serialize: Callable[[Any], bytes] = inner.response_serializer or bytes
        self._behaviour: Behaviour = _behaviour(inner)
        self._checked = method not in boundary.in_band
        self.handler = self._wrapped()

    def _wrapped(self) -> Handler:
        """A handler of the same kind. A unary request reaches it as bytes, read once the caller is known."""
        match _streaming(self.inner):
            case False, False:
                return grpc.unary_unary_rpc_method_handler(self._one_answer, None, self._write)
            case False, True:
                return grpc.unary_stream_rpc_method_handler(self._many_answers, None, self._write)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(self._one_answer, self._read, self._write)
            case _:
                return grpc.stream_stream_rpc_method_handler(self._many_answers, self._read, self._write)

    async def _one_answer(self, request: Any, context: Context) -> bytes:
        async def run(identify: Identify) -> bytes:
            answer = self._behaviour(self._request(request), context)
            data = self._write(await answer if isinstance(answer, Awaitable) else answer)
            await identify()
            return data

        answer: bytes = await self._cross(context, run)
        return answer

    async def _many_answers(self, request: Any, context: Context) -> None:
        async def run(identify: Identify) -> None:
            answers = self._behaviour(self._request(request), context)
            async with Opening(identify, self._boundary.tasks) as opening:
                if isinstance(answers, AsyncIterator):
                    await _relay(answers, context, opening)
                else:  # a handler that writes to the context itself
                    await opening.open()
                    await answers

        await self._cross(context, run)

    async def _cross(self, context: Context, run: Callable[[Identify], Awaitable[Any]]) -> Any:
        metadata = tuple(context.invocation_metadata() or ())
        given = _request_id(metadata)
        record = Record(request_id=given or ids.uuid())

        async def identify() -> None:
            own = ((REQUEST_ID, record.request_id),)
            if given and not self.inner.response_streaming:
                context.set_trailing_metadata(own)  # free; headers ahead of one answer cost it 60 µs
            else:
                await context.send_initial_metadata(own)

        with self._boundary.recorded(self._method, record):
            try:
                with self._boundary.place(self._streaming):
                    policy = self._admitting(context)
                    caller = self._boundary.authenticator.caller(metadata, policy)
                    del metadata  # a stream would keep its token for as long as it lasts
                    record.caller = _kind(caller)
                    seconds = _seconds(policy.deadline, context.time_remaining())
                    call = self._call(context, caller, record.request_id, seconds)
                    return await _within(seconds, call, lambda: run(identify))
            except Exception as error:  # noqa: BLE001 - this is the boundary
                public = self._boundary.public(error, record)
            return await self._refuse(context, public, record.request_id)

    def _call(self, context: Context, caller: Caller | None, request_id: str, seconds: float | None) -> Call:
        return Call(
            request_id=request_id,
            method=self._method,
            caller=caller,
            deadline=None if seconds is None else time.monotonic() + seconds,
            peer=context.peer(),
        )

    def _admitting(self, context: Context) -> Policy:
        if self._policy is None or not self._policy.served:
            raise NotServed
        if self._policy.audience is Audience.LOCAL and not context.peer().startswith("unix"):
            raise CallerNotAllowed("an operator's method was called over the network")
        return self._policy

    def _request(self, request: Any) -> Any:
        return request if self.inner.request_streaming else self._read(request)

    def _read(self, data: bytes) -> Any:
        try:
            message = self.inner.request_deserializer(data) if self.inner.request_deserializer else data
        except Exception as error:
            raise MalformedMessage(type(error).__name__) from error
        if self._checked and (found := violations(message)):
            raise InvalidRequest(", ".join(f"{each.field}: {each.rule}" for each in found), violations=found)
        return message

    def _write(self, message: Any) -> bytes:
        if isinstance(message, bytes):  # serialised already, for many readers at once
            return message
        data: bytes = self._serialize(message)
        return data

    async def _refuse(self, context: Context, error: ServiceError, request_id: str) -> None:
        status = to_status(error, domain=self._boundary.domain, request_id=request_id)
        trailing = ((DETAILS, status.SerializeToString()), (REQUEST_ID, request_id))
        await context.abort(error.code, error.message, trailing)


async def _within(seconds: float | None, call: Call, run: Callable[[], Awaitable[Any]]) -> Any:
    """Serve the call under its deadline. Raises DeadlineExceeded."""
    with entered(call):
        try:
            async with asyncio.timeout(seconds) as limit:
                return await run()
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineExceeded from error
            raise


def _behaviour(handler: Handler) -> Behaviour:
    kind = "_".join("stream" if streaming else "unary" for streaming in _streaming(handler))
    behaviour: Behaviour = getattr(handler, kind)
    return behaviour


def _streaming(handler: Handler) -> tuple[bool, bool]:
    return handler.request_streaming, handler.response_streaming


async def _relay(answers: AsyncIterator[Any], context: Context, opening: Opening) -> None:
    try:
        async for answer in answers:
            if not opening.opened:
                await opening.open()
            await context.write(answer)
    finally:
        if close := getattr(answers, "aclose", None):
            await close()


async def _refused(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    raise NotServed
    yield b""  # makes this a stream; never reached


UNKNOWN: Handler = grpc.stream_stream_rpc_method_handler(_refused)


def _request_id(metadata: Metadata) -> str | None:
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID_FORM.fullmatch(value):
            return value
    return None


def _kind(caller: Caller | None) -> str:
    match caller:
        case User():
            return "user"
        case RoomCaller(name=name):
            return name
        case None:
            return "none"


def _seconds(cap: timedelta | None, clients: float | None) -> float | None:
    limits = [seconds for seconds in (clients,) if seconds is not None and seconds < _FOREVER]
    if cap is not None:
        limits.append(cap.total_seconds())
    return min(limits, default=None)
