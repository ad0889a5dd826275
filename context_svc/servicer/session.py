"""SessionService."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from assistant.session.v1 import session_pb2 as pb
from assistant.session.v1.session_pb2_grpc import SessionServiceServicer, add_SessionServiceServicer_to_server
from chassis import call
from context_svc.meta import Mesh
from context_svc.sessions import Sessions
from context_svc.wire import session as wire

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class SessionServicer(SessionServiceServicer):
    """The sessions of the calling person."""

    def __init__(self, sessions: Sessions, mesh: Mesh) -> None:
        self._sessions = sessions
        self._epoch = mesh.log_epoch

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        add_SessionServiceServicer_to_server(self, server)

    async def CreateSession(
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """See the contract."""
        created = await self._sessions.create(call.current().user(), wire.new_session(request))
        return pb.CreateSessionResponse(session=wire.session(created, self._epoch))

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        """See the contract."""
        found = await self._sessions.get(call.current().user(), request.session_id)
        return pb.GetSessionResponse(session=wire.session(found, self._epoch))

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        """See the contract."""
        page = await self._sessions.list_page(
            call.current().user(),
            size=request.page_size,
            token=request.page_token,
            open_only=request.open_only,
        )
        return wire.page(page, self._epoch)

    async def UpdateSession(
        self, request: pb.UpdateSessionRequest, context: Context
    ) -> pb.UpdateSessionResponse:
        """See the contract."""
        changed = await self._sessions.update(
            call.current().user(),
            request.session_id,
            wire.change(request),
            expected_version=request.expected_version,
            model=wire.model_set(request),
        )
        return pb.UpdateSessionResponse(session=wire.session(changed, self._epoch))

    async def ResumeSession(
        self, request: pb.ResumeSessionRequest, context: Context
    ) -> pb.ResumeSessionResponse:
        """See the contract."""
        resumed = await self._sessions.resume(call.current().user(), request.session_id)
        return wire.resumed(resumed, self._epoch)

    async def EndSession(self, request: pb.EndSessionRequest, context: Context) -> pb.EndSessionResponse:
        """See the contract."""
        ended = await self._sessions.end(call.current().user(), request.session_id)
        return pb.EndSessionResponse(session=wire.session(ended, self._epoch))

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, context: Context
    ) -> pb.DeleteSessionResponse:
        """See the contract."""
        await self._sessions.delete(
            call.current().user(), request.session_id, allow_missing=request.allow_missing
        )
        return pb.DeleteSessionResponse()
