"""Health per service name (grpc.health.v1). Readiness is the room's own; a dependency is one more name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.errors import Draining, HealthNameUnknown

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """What this process says of itself. ``""`` is the process as a whole; names begin as not serving."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._serving = dict.fromkeys(("", *names), False)
        self._changed = asyncio.Event()
        self._draining = False

    def set(self, name: str, serving: bool) -> None:
        """Say it of one name (added when new). No name changes another. Ignored once draining."""
        if not self._draining:
            self._serving[name] = serving
            self._tell()

    def drain(self) -> None:
        """Nothing serves any more; those who watch are told and their streams end."""
        self._draining = True
        self._serving = dict.fromkeys(self._serving, False)
        self._tell()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: object) -> Any:
        """The state of one name. Raises HealthNameUnknown."""
        if request.service not in self._serving:
            raise HealthNameUnknown
        return health_pb2.HealthCheckResponse(status=self._state(request.service))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: object) -> AsyncIterator[Any]:
        """The state of one name, now and at each change, until the process drains."""
        last = None
        while True:
            changed, draining = self._changed, self._draining
            state = self._state(request.service)
            if state != last:
                yield health_pb2.HealthCheckResponse(status=state)
                last = state
            if draining:
                raise Draining
            if changed is self._changed:
                await changed.wait()

    def register(self, server: grpc.aio.Server) -> None:
        """Serve the health service."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def _state(self, name: str) -> int:
        if name not in self._serving:
            return int(_UNKNOWN)
        return int(_SERVING if self._serving[name] else _NOT_SERVING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
