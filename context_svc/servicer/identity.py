"""IdentityService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from google.api.httpbody_pb2 import HttpBody

from assistant.identity.v1 import identity_pb2 as pb
from assistant.identity.v1.identity_pb2_grpc import (
    IdentityServiceServicer,
    add_IdentityServiceServicer_to_server,
)
from chassis import call
from chassis.call import Caller, RoomCaller
from chassis.clock import Clock
from context_svc.accounts import Accounts
from context_svc.api_tokens import ApiTokens
from context_svc.device_list import DeviceList
from context_svc.guard import Guard
from context_svc.leaving import Leaving
from context_svc.ledger import Purses
from context_svc.networks import network_of
from context_svc.profiles import Profiles
from context_svc.revocations import Feed
from context_svc.server_info import Introduction
from context_svc.signing import UserKeys
from context_svc.signins import SignIns
from context_svc.usage import Gate
from context_svc.wire import identity as wire
from context_svc.wire import leaving
from context_svc.wire.times import timestamp

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class IdentityServicer(IdentityServiceServicer):
    """Accounts, devices and tokens; the calls that `context_svc.access` serves."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        sign_ins: SignIns,
        api_tokens: ApiTokens,
        devices: DeviceList,
        profiles: Profiles,
        leaving: Leaving,
        guard: Guard,
        introduction: Introduction,
        keys: UserKeys,
        feed: Feed,
        gate: Gate,
        clock: Clock,
        purses: Purses,
    ) -> None:
        self._accounts = accounts
        self._sign_ins = sign_ins
        self._api_tokens = api_tokens
        self._devices = devices
        self._profiles = profiles
        self._leaving = leaving
        self._guard = guard
        self._introduction = introduction
        self._keys = keys
        self._feed = feed
        self._gate = gate
        self._clock = clock
        self._purses = purses

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        add_IdentityServiceServicer_to_server(self, server)

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:
        """See the contract."""
        return wire.registered(await self._accounts.register(wire.registration(request, _network(context))))

    async def Login(self, request: pb.LoginRequest, context: Context) -> pb.LoginResponse:
        """See the contract."""
        return wire.logged_in(await self._accounts.log_in(wire.login(request, _network(context))))

    async def RefreshToken(
        self, request: pb.RefreshTokenRequest, context: Context
    ) -> pb.RefreshTokenResponse:
        """See the contract."""
        tokens = await self._sign_ins.refresh(request.refresh_token, request.device_id)
        return pb.RefreshTokenResponse(tokens=wire.tokens(tokens))

    async def Logout(self, request: pb.LogoutRequest, context: Context) -> pb.LogoutResponse:
        """See the contract."""
        await self._sign_ins.end_named(
            refresh_token=request.refresh_token,
            user=self._gate.signed_in(context.invocation_metadata() or ()),
            forget_device=request.forget_device,
        )
        return pb.LogoutResponse()

    async def GetCurrentUser(
        self, request: pb.GetCurrentUserRequest, context: Context
    ) -> pb.GetCurrentUserResponse:
        """See the contract."""
        user = call.current().user()
        return wire.current_user(
            await self._accounts.get(user.account),
            await self._devices.of_sign_in(user.sign_in),
            user.scopes,
            await self._purses.today(user.account),
        )

    async def UpdateCurrentUser(
        self, request: pb.UpdateCurrentUserRequest, context: Context
    ) -> pb.UpdateCurrentUserResponse:
        """See the contract."""
        changed = await self._profiles.update(call.current().user(), wire.profile_change(request))
        return pb.UpdateCurrentUserResponse(account=wire.account(changed))

    async def ChangePassword(
        self, request: pb.ChangePasswordRequest, context: Context
    ) -> pb.ChangePasswordResponse:
        """See the contract."""
        ended = await self._profiles.change_password(call.current().user(), wire.password_change(request))
        return pb.ChangePasswordResponse(revoked_devices=ended)

    async def ListDevices(self, request: pb.ListDevicesRequest, context: Context) -> pb.ListDevicesResponse:
        """See the contract."""
        page = await self._devices.list_page(
            call.current().user(), size=request.page_size, token=request.page_token
        )
        return wire.device_page(page)

    async def UpdateDevice(
        self, request: pb.UpdateDeviceRequest, context: Context
    ) -> pb.UpdateDeviceResponse:
        """See the contract."""
        change = wire.device_change(request, self._clock.now_us())
        changed = await self._devices.change(call.current().user(), change)
        return pb.UpdateDeviceResponse(device=wire.listed_device(changed))

    async def RevokeDevice(
        self, request: pb.RevokeDeviceRequest, context: Context
    ) -> pb.RevokeDeviceResponse:
        """See the contract."""
        await self._devices.revoke(
            call.current().user(), request.device_id, allow_missing=request.allow_missing
        )
        return pb.RevokeDeviceResponse()

    async def CreateApiToken(
        self, request: pb.CreateApiTokenRequest, context: Context
    ) -> pb.CreateApiTokenResponse:
        """See the contract."""
        made, secret = await self._api_tokens.create(call.current().user(), wire.new_api_token(request))
        return pb.CreateApiTokenResponse(api_token=wire.api_token(made), secret=secret)

    async def ListApiTokens(
        self, request: pb.ListApiTokensRequest, context: Context
    ) -> pb.ListApiTokensResponse:
        """See the contract."""
        page = await self._api_tokens.list_page(
            call.current().user(), size=request.page_size, token=request.page_token
        )
        return wire.api_token_page(page)

    async def RevokeApiToken(
        self, request: pb.RevokeApiTokenRequest, context: Context
    ) -> pb.RevokeApiTokenResponse:
        """See the contract."""
        await self._api_tokens.revoke(
            call.current().user(), request.api_token_id, allow_missing=request.allow_missing
        )
        return pb.RevokeApiTokenResponse()

    async def ExportAccount(
        self, request: pb.ExportAccountRequest, context: Context
    ) -> AsyncIterator[pb.ExportAccountResponse]:
        """See the contract."""
        frames = self._leaving.exports.stream(
            call.current().user(), request.request_id, with_blobs=not request.without_blobs
        )
        async for frame in frames:
            yield leaving.export_frame(frame)

    async def ImportAccount(
        self, request_iterator: AsyncIterator[pb.ImportAccountRequest], context: Context
    ) -> pb.ImportAccountResponse:
        """See the contract."""
        announced = await leaving.first_header(request_iterator)
        arrived = await self._leaving.imports.receive(
            call.current().user(), announced, leaving.chunks(request_iterator)
        )
        return pb.ImportAccountResponse(account_import=leaving.account_import(arrived))

    async def CreateImport(
        self, request: pb.CreateImportRequest, context: Context
    ) -> pb.CreateImportResponse:
        """See the contract."""
        made = await self._leaving.imports.create(call.current().user(), leaving.announced(request.header))
        return pb.CreateImportResponse(account_import=leaving.account_import(made))

    async def WriteImport(self, request: pb.WriteImportRequest, context: Context) -> pb.WriteImportResponse:
        """See the contract."""
        arrived = await self._leaving.imports.write(
            call.current().user(), request.import_id, request.offset, request.chunk
        )
        return pb.WriteImportResponse(account_import=leaving.account_import(arrived))

    async def GetImport(self, request: pb.GetImportRequest, context: Context) -> pb.GetImportResponse:
        """See the contract."""
        found = await self._leaving.imports.get(call.current().user(), request.import_id)
        return pb.GetImportResponse(account_import=leaving.account_import(found))

    async def DeleteAccount(
        self, request: pb.DeleteAccountRequest, context: Context
    ) -> pb.DeleteAccountResponse:
        """See the contract."""
        deadline_us = await self._leaving.erasures.by_person(
            call.current().user(), self._guard, request_id=request.request_id, password=request.password
        )
        return pb.DeleteAccountResponse(erase_deadline=timestamp(deadline_us))

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        """See the contract."""
        return wire.server_info(await self._introduction.read())

    async def GetJwks(self, request: pb.GetJwksRequest, context: Context) -> HttpBody:
        """See the contract."""
        return wire.jwks(self._keys.jwks())

    async def WatchRevocations(
        self, request: pb.WatchRevocationsRequest, context: Context
    ) -> AsyncIterator[pb.WatchRevocationsResponse]:
        """See the contract."""
        frames = self._feed.watch(
            room=_room(call.current().caller), instance=request.instance_id, version=request.version
        )
        sequence = 0
        async for frame in frames:
            sequence += 1
            yield wire.feed_frame(frame, sequence=sequence, sent_us=self._clock.now_us())


def _network(context: Context) -> str:
    return network_of(context.invocation_metadata() or ())


def _room(caller: Caller | None) -> str:
    """The name of the calling room; the policy lets nobody else come here."""
    return caller.name if isinstance(caller, RoomCaller) else ""
