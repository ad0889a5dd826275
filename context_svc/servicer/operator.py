"""OperatorService: on its own socket, for whoever may open it."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from assistant.operator.v1 import operator_pb2 as pb
from assistant.operator.v1.operator_pb2_grpc import (
    OperatorServiceServicer,
    add_OperatorServiceServicer_to_server,
)
from context_svc.backups import Backups
from context_svc.deletions import Erasures
from context_svc.setup_code import SetupCode
from context_svc.status import StatusBoard
from context_svc.users import Users
from context_svc.wire import operator as wire
from context_svc.wire.times import timestamp

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class OperatorServicer(OperatorServiceServicer):
    """What the owner of the machine may do; never message content."""

    def __init__(
        self, setup_code: SetupCode, board: StatusBoard, users: Users, erasures: Erasures, backups: Backups
    ) -> None:
        self._setup_code = setup_code
        self._board = board
        self._users = users
        self._erasures = erasures
        self._backups = backups

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        add_OperatorServiceServicer_to_server(self, server)

    async def GetSetupCode(
        self, request: pb.GetSetupCodeRequest, context: Context
    ) -> pb.GetSetupCodeResponse:
        """See the contract."""
        return wire.setup_code(await self._setup_code.show())

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """See the contract."""
        return wire.status(await self._board.read(), await self._backups.kept())

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        """See the contract."""
        return wire.users(await self._users.list_page(size=request.page_size, token=request.page_token))

    async def CreateInvite(
        self, request: pb.CreateInviteRequest, context: Context
    ) -> pb.CreateInviteResponse:
        """See the contract."""
        made = await self._users.invite(request.request_id, ttl=wire.ttl(request), email=request.email)
        return wire.invite(made)

    async def ResetPassword(
        self, request: pb.ResetPasswordRequest, context: Context
    ) -> pb.ResetPasswordResponse:
        """See the contract."""
        made = await self._users.reset_password(request.request_id, request.account_id, request.new_password)
        return pb.ResetPasswordResponse(generated_password=made)

    async def RevokeUser(self, request: pb.RevokeUserRequest, context: Context) -> pb.RevokeUserResponse:
        """See the contract."""
        done = await self._users.revoke(request.request_id, request.account_id, block=request.block)
        return wire.revoked(done)

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> pb.DeleteUserResponse:
        """See the contract."""
        deadline_us = await self._erasures.by_operator(
            request.account_id, request_id=request.request_id, confirm_email=request.confirm_email
        )
        return pb.DeleteUserResponse(erase_deadline=timestamp(deadline_us))

    async def CreateBackup(
        self, request: pb.CreateBackupRequest, context: Context
    ) -> pb.CreateBackupResponse:
        """See the contract."""
        made = await self._backups.create(request.request_id, request.directory)
        return pb.CreateBackupResponse(backup=wire.backup(made))

    async def RestoreBackup(
        self, request: pb.RestoreBackupRequest, context: Context
    ) -> pb.RestoreBackupResponse:
        """See the contract."""
        done = await self._backups.restore(
            request.request_id, backup_id=request.backup_id, path=request.directory
        )
        return wire.restored(done)
