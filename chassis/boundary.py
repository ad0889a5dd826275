"""The boundary every call crosses, and what a caller may learn of a failure.

In order: request id, room for one more, policy, caller, request bytes, rules of the contract, the handler
under its deadline, the answer's bytes (`chassis.crossing`). Whatever fails on the way leaves as a catalogued
status, and one line is logged per call: never content.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from chassis import telemetry
from chassis.access import STANDARD, Policies
from chassis.clock import Clock, SystemClock
from chassis.crossing import UNKNOWN, Authenticates, Crossing, Handler, Record
from chassis.errors import Internal, Overloaded, ServiceError, Told
from chassis.tasks import Tasks


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundaryMetrics:
    """Calls open now, and calls ended since start by (method, code)."""

    open_streams: int
    unary_in_flight: int
    calls: Mapping[tuple[str, str], int]


class Boundary(grpc.aio.ServerInterceptor):
    """The one interceptor of a server.

    `in_band` names methods whose stream messages are not checked against the contract's rules here, because
    the servicer answers a bad one inside the stream (with `chassis.validation.violations`).
    """

    def __init__(
        self,
        *,
        policies: Policies,
        authenticator: Authenticates,
        domain: str,
        clock: Clock | None = None,
        unary_limit: int = 256,
        stream_limit: int = 8192,
        in_band: frozenset[str] = frozenset(),
        log: telemetry.Logger | None = None,
    ) -> None:
        self.policies: Policies = {**STANDARD, **policies}
        self.authenticator = authenticator
        self.domain = domain
        self.in_band = in_band
        self.tasks = Tasks()
        self._clock = clock or SystemClock()
        self._log = log or telemetry.logger(__name__)
        self._limits = {True: stream_limit, False: unary_limit}
        self._open = {True: 0, False: 0}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._crossings: dict[str, Crossing] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the method's handler; a method that is unknown or has no policy gets one that refuses."""
        method = handler_call_details.method
        inner = await continuation(handler_call_details)
        known = self._crossings.get(method)
        if known is not None and known.inner is inner:
            return known.handler
        policy = self.policies.get(method)
        if inner is None or policy is None:
            return Crossing(self, "unknown", None, UNKNOWN).handler
        crossing = self._crossings[method] = Crossing(self, method, policy, inner)
        return crossing.handler

    def metrics(self) -> BoundaryMetrics:
        """Counts of this server."""
        return BoundaryMetrics(
            open_streams=self._open[True], unary_in_flight=self._open[False], calls=dict(self._calls)
        )

    @contextmanager
    def place(self, streaming: bool) -> Iterator[None]:
        """Take one of the places for calls at once. Raises Overloaded when there is none."""
        if self._open[streaming] >= self._limits[streaming]:
            raise Overloaded("too many calls at once", quota="streams" if streaming else "calls")
        self._open[streaming] += 1
        try:
            yield
        finally:
            self._open[streaming] -= 1

    @contextmanager
    def recorded(self, method: str, record: Record) -> Iterator[None]:
        """Count the call and log its one line when it ends."""
        began = self._clock.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            record.code, record.reason = grpc.StatusCode.CANCELLED.name, ""
            raise
        finally:
            self._calls[(method, record.code)] += 1
            quiet = method in STANDARD and record.code == grpc.StatusCode.OK.name
            write = self._log.debug if quiet else self._log.info
            write(
                "call",
                method=method,
                code=record.code,
                reason=record.reason,
                ms=round((self._clock.monotonic() - began) * 1000, 2),
                request_id=record.request_id,
                caller=record.caller,
                **({"why": record.why} if record.why else {}),
            )

    @contextmanager
    def guarded(self, record: Record) -> Iterator[None]:
        """For doors that are not gRPC: whatever fails inside leaves as what the caller may learn of it.

        Failures that a call through this boundary already told (`chassis.errors.Told`) pass as they are.
        """
        try:
            yield
        except Told:
            raise
        except Exception as error:
            raise self.public(error, record) from error

    def public(self, error: Exception, record: Record) -> ServiceError:
        """What the caller may learn. A fault of ours is logged with its traceback and becomes Internal."""
        if not isinstance(error, ServiceError):
            self._log.error("call failed", error=error, request_id=record.request_id)
            error = Internal()
        record.code, record.reason, record.why = error.code.name, error.reason, error.internal
        return error
