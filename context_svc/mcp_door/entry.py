"""The door itself: who may come in, before anything of the protocol is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import json_format
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis import ids
from chassis.access import ANY_SCOPE, Audience, Policy
from chassis.boundary import Boundary
from chassis.call import User
from chassis.crossing import Record
from chassis.errors import CallerNotAllowed, Draining, NotServed, ServiceError
from context_svc.mcp_door import answers
from context_svc.mcp_door.loopback import Visit
from context_svc.mcp_door.server import USER, VISIT

PATH = "/mcp"
_ANYONE = Policy(audience=Audience.USER, deadline=None, scope=ANY_SCOPE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PORT = re.compile(r":\d*$")
_PASSED = ("authorization", "x-forwarded-for", "user-agent")
_HTTP = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNIMPLEMENTED: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class Entry:
    """Lets requests in to `inner`: known callers, of pages that may ask, one method and one path."""

    def __init__(
        self, inner: ASGIApp, boundary: Boundary, origins: Sequence[str], hosts: Sequence[str]
    ) -> None:
        self._inner = inner
        self._boundary = boundary
        self._origins = frozenset(origins)
        self._hosts = frozenset(hosts)
        self._draining = False

    def drain(self) -> None:
        """Let nobody in any more."""
        self._draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else ids.uuid()
        record = Record(request_id=request_id)
        try:
            with self._boundary.guarded(record):
                visit, user = self._admitted(scope, headers, request_id)
        except ServiceError as error:
            with self._boundary.recorded("mcp entry", record):
                record.code, record.reason, record.why = error.code.name, error.reason, error.internal
                await _refuse(error, request_id)(scope, receive, send)
            return
        if scope["method"] != "POST":
            # No stream of the server's own, and no sessions to end: every answer comes on its request.
            await JSONResponse(None, 405, {"allow": "POST", "x-request-id": request_id})(scope, receive, send)
            return
        scope[VISIT], scope[USER] = visit, user
        await self._inner(scope, receive, send)

    def _admitted(self, scope: Scope, headers: Headers, request_id: str) -> tuple[Visit, User]:
        if scope["path"] != PATH:
            raise NotServed
        origin, host = headers.get("origin"), _PORT.sub("", headers.get("host", ""))
        if origin is not None and origin not in self._origins:
            raise CallerNotAllowed("a page of another origin asks")
        if self._hosts and host.lower() not in self._hosts:
            raise CallerNotAllowed("another host was asked for")
        metadata = tuple((key, value) for key in _PASSED for value in headers.getlist(key))
        caller: Any = self._boundary.authenticator.caller(metadata, _ANYONE)
        if self._draining:
            raise Draining
        return Visit(request_id=request_id, metadata=metadata), caller


def _refuse(error: ServiceError, request_id: str) -> JSONResponse:
    status = answers.status(error, request_id)
    headers = {"x-request-id": request_id}
    if error.code is grpc.StatusCode.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after.total_seconds())))
    return JSONResponse(json_format.MessageToDict(status), _HTTP.get(error.code, 500), headers)
