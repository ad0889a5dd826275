"""IdentityService's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta
from typing import assert_never

from google.api.httpbody_pb2 import HttpBody

from assistant.context.v1.context_pb2 import DeviceContextKind
from assistant.identity.v1 import identity_pb2 as pb
from assistant.message.v1.message_pb2 import Placement as ProtoPlacement
from chassis.errors import InvalidRequest, Violation
from context_svc.accounts import (
    Account,
    InvitePermission,
    Login,
    Permission,
    Registration,
    SetupPermission,
    SignedIn,
)
from context_svc.api_tokens import DEFAULT_TTL, ApiToken, NewToken
from context_svc.api_tokens import Page as TokenPage
from context_svc.consents import Consent, Kind, Placement, default_placement
from context_svc.device_list import DeviceChange, Listed, Page
from context_svc.devices import Device, DeviceInfo, Platform
from context_svc.ledger import Day
from context_svc.profiles import PasswordChange, ProfileChange
from context_svc.revocations import (
    Change,
    Closed,
    CloseReason,
    EndedAccount,
    EndedSignIn,
    Frame,
    Heartbeat,
    State,
)
from context_svc.server_info import Limits, ServerInfo
from context_svc.signing import PublicKey
from context_svc.signins import Tokens
from context_svc.wire.times import duration, timestamp

_CLOSED = {
    CloseReason.DRAINING: pb.REVOCATION_FEED_CLOSED_REASON_DRAINING,
    CloseReason.EXPIRED: pb.REVOCATION_FEED_CLOSED_REASON_EXPIRED,
    CloseReason.SLOW: pb.REVOCATION_FEED_CLOSED_REASON_SLOW,
}


def registration(request: pb.RegisterRequest, network: str) -> Registration:
    """What a new person says."""
    return Registration(
        request_id=request.request_id,
        email=request.email,
        display_name=request.display_name,
        password=request.password,
        device=device_info(request.device),
        permission=_permission(request),
        network=network,
    )


def login(request: pb.LoginRequest, network: str) -> Login:
    """What a person says to sign in."""
    return Login(
        email=request.email,
        password=request.password,
        device=device_info(request.device),
        device_secret=request.device_secret,
        network=network,
    )


def device_info(info: pb.DeviceInfo) -> DeviceInfo:
    """What a device says about itself."""
    return DeviceInfo(
        id=info.device_id, name=info.name, platform=Platform(info.platform), app_version=info.app_version
    )


def registered(signed_in: SignedIn) -> pb.RegisterResponse:
    """A new account, signed in."""
    return pb.RegisterResponse(
        account=account(signed_in.account),
        device=device(signed_in.device.device, current=True),
        tokens=tokens(signed_in.device.tokens),
        device_secret=signed_in.device.device_secret,
    )


def logged_in(signed_in: SignedIn) -> pb.LoginResponse:
    """A device, signed in."""
    return pb.LoginResponse(
        account=account(signed_in.account),
        device=device(signed_in.device.device, current=True),
        tokens=tokens(signed_in.device.tokens),
        device_secret=signed_in.device.device_secret,
    )


def current_user(
    person: Account, using: Listed | None, scopes: Iterable[str], today: Day
) -> pb.GetCurrentUserResponse:
    """Who calls, from which device, what an API token may do, and what was spent today."""
    return pb.GetCurrentUserResponse(
        account=account(person),
        device=None if using is None else listed_device(using),
        scopes=sorted(map(_scope, scopes)),
        spending=pb.Spending(
            spent_micro_usd=today.spent, limit_micro_usd=today.limit, reset_time=timestamp(today.reset_us)
        ),
    )


def new_api_token(request: pb.CreateApiTokenRequest) -> NewToken:
    """What an API token is to be."""
    return NewToken(
        request_id=request.request_id,
        name=request.name,
        scopes=tuple(sorted(_scope_name(each) for each in request.scopes)),
        ttl=request.ttl.ToTimedelta() if request.HasField("ttl") else DEFAULT_TTL,
    )


def api_token(value: ApiToken) -> pb.ApiToken:
    """What is known of an API token."""
    used = value.last_use_us
    return pb.ApiToken(
        id=value.id,
        name=value.name,
        scopes=sorted(map(_scope, value.scopes)),
        create_time=timestamp(value.create_us),
        expire_time=timestamp(value.expire_us),
        last_use_time=None if used is None else timestamp(used // 60_000_000 * 60_000_000),
    )


def api_token_page(page: TokenPage) -> pb.ListApiTokensResponse:
    """A page of API tokens."""
    return pb.ListApiTokensResponse(
        api_tokens=[api_token(each) for each in page.tokens], next_page_token=page.next_token
    )


def account(value: Account) -> pb.Account:
    """An account."""
    return pb.Account(
        id=value.id,
        email=value.email,
        display_name=value.display_name,
        create_time=timestamp(value.create_us),
        update_time=timestamp(value.update_us),
        version=value.version,
    )


def listed_device(value: Listed) -> pb.Device:
    """A device of the list."""
    answer = device(value.device, current=value.current)
    answer.signed_in = value.signed_in
    answer.consents.extend(_consent(each) for each in value.consents)
    return answer


def device_page(page: Page) -> pb.ListDevicesResponse:
    """A page of devices."""
    return pb.ListDevicesResponse(
        devices=[listed_device(each) for each in page.devices], next_page_token=page.next_token
    )


def device_change(request: pb.UpdateDeviceRequest, now_us: int) -> DeviceChange:
    """What is to change about a device. Raises InvalidRequest."""
    named, told = set(request.update_mask.paths), request.device
    decided = tuple(_decided(each, now_us) for each in told.consents) if "consents" in named else ()
    if len({each.kind for each in decided}) != len(decided):
        raise _unfit("device.consents", "A kind has one entry at most.")
    return DeviceChange(
        request_id=request.request_id,
        device=told.id,
        name=_filled("device.name", told.name) if "name" in named else None,
        consents=decided,
        expected_version=request.expected_version if request.HasField("expected_version") else None,
    )


def profile_change(request: pb.UpdateCurrentUserRequest) -> ProfileChange:
    """What is to change about the account. Raises InvalidRequest."""
    named, told = set(request.update_mask.paths), request.account
    return ProfileChange(
        request_id=request.request_id,
        display_name=_filled("account.display_name", told.display_name) if "display_name" in named else None,
        email=_filled("account.email", told.email) if "email" in named else None,
        expected_version=request.expected_version if request.HasField("expected_version") else None,
        password=request.current_password,
    )


def password_change(request: pb.ChangePasswordRequest) -> PasswordChange:
    """What a person says to get another password."""
    return PasswordChange(
        request_id=request.request_id,
        current=request.current_password,
        fresh=request.new_password,
        with_api_tokens=request.revoke_api_tokens,
    )


def device(value: Device, *, current: bool) -> pb.Device:
    """A device that is signed in."""
    return pb.Device(
        id=value.id,
        name=value.name,
        platform=pb.DevicePlatform.ValueType(int(value.platform)),
        app_version=value.app_version,
        create_time=timestamp(value.create_us),
        last_use_time=timestamp(value.last_use_us // 60_000_000 * 60_000_000),
        last_network=value.last_network,
        current=current,
        signed_in=True,
        version=value.version,
    )


def tokens(value: Tokens) -> pb.TokenSet:
    """What a device holds."""
    return pb.TokenSet(
        access_token=value.access,
        access_expire_time=timestamp(value.access_expire_us),
        refresh_token=value.refresh,
        refresh_expire_time=timestamp(value.refresh_expire_us),
    )


def server_info(info: ServerInfo) -> pb.GetServerInfoResponse:
    """What the server is."""
    return pb.GetServerInfoResponse(
        server_id=info.server_id,
        server_name=info.server_name,
        version=info.version,
        server_time=timestamp(info.server_time_us),
        registration=pb.RegistrationMode.ValueType(int(info.registration)),
        limits=_limits(info.limits),
    )


def jwks(document: bytes) -> HttpBody:
    """The key set as it stands."""
    return HttpBody(content_type="application/jwk-set+json", data=document)


def feed_frame(frame: Frame, *, sequence: int, sent_us: int) -> pb.WatchRevocationsResponse:
    """One frame of the feed."""
    answer = pb.WatchRevocationsResponse(sequence=sequence, send_time=timestamp(sent_us))
    match frame:
        case State():
            answer.state.signing_keys.extend(_signing_key(key) for key in frame.keys)
            answer.state.revoked_sign_ins.extend(_revoked(each) for each in frame.sign_ins)
            answer.state.revoked_accounts.extend(_deleted(each) for each in frame.accounts)
            answer.state.SetInParent()
        case Change():
            answer.change.revoked_sign_ins.extend(_revoked(each) for each in frame.sign_ins)
            answer.change.revoked_accounts.extend(_deleted(each) for each in frame.accounts)
            answer.change.signing_keys.extend(_signing_key(key) for key in frame.keys)
            answer.change.retired_key_ids.extend(frame.retired_keys)
            answer.change.SetInParent()
        case Heartbeat():
            answer.heartbeat.SetInParent()
        case Closed(reason):
            answer.closed.reason = _CLOSED[reason]
        case _:
            assert_never(frame)
    return answer


def _scope(name: str) -> pb.TokenScope.ValueType:
    return pb.TokenScope.Value(f"TOKEN_SCOPE_{name.upper()}")


def _scope_name(scope: pb.TokenScope.ValueType) -> str:
    return pb.TokenScope.Name(scope).removeprefix("TOKEN_SCOPE_").lower()


def _decided(told: pb.DeviceConsent, now_us: int) -> Consent:
    kind = Kind(told.kind)
    placement = Placement(told.placement) if told.placement else default_placement(kind)
    return Consent(kind=kind, granted=told.granted, placement=placement, update_us=now_us)


def _consent(value: Consent) -> pb.DeviceConsent:
    return pb.DeviceConsent(
        kind=DeviceContextKind.ValueType(int(value.kind)),
        granted=value.granted,
        placement=ProtoPlacement.ValueType(int(value.placement)),
        update_time=timestamp(value.update_us),
    )


def _filled(field: str, value: str) -> str:
    if not value:
        raise _unfit(field, "It must not be empty.")
    return value


def _unfit(field: str, description: str) -> InvalidRequest:
    found = Violation(field=field, description=description, rule="identity.fit")
    return InvalidRequest(field, violations=(found,))


def _permission(request: pb.RegisterRequest) -> Permission:
    match request.WhichOneof("permission"):
        case "setup_code":
            return SetupPermission(request.setup_code)
        case "invite_code":
            return InvitePermission(request.invite_code)
        case _:
            return None


def _signing_key(key: PublicKey) -> pb.SigningKey:
    return pb.SigningKey(
        key_id=key.key_id,
        purpose=pb.SigningKeyPurpose.ValueType(int(key.purpose)),
        jwk_json=json.dumps(dict(key.jwk)),
        not_before_time=timestamp(key.create_us),
        not_after_time=None if key.end_us is None else timestamp(key.end_us),
    )


def _revoked(ended: EndedSignIn) -> pb.RevokedSignIn:
    return pb.RevokedSignIn(
        sign_in_id=ended.sign_in,
        account_id=ended.account,
        revoke_time=timestamp(ended.end_us),
        forget_time=timestamp(ended.forget_us),
    )


def _deleted(ended: EndedAccount) -> pb.RevokedAccount:
    return pb.RevokedAccount(
        account_id=ended.account,
        cause=pb.ACCOUNT_REVOCATION_DELETED,
        revoke_time=timestamp(ended.end_us),
        forget_time=timestamp(ended.forget_us),
    )


def _limits(limits: Limits) -> pb.ServerLimits:
    answer = pb.ServerLimits()
    for field in fields(limits):
        value = getattr(limits, field.name)
        if isinstance(value, timedelta):
            getattr(answer, field.name).CopyFrom(duration(value))
        else:
            setattr(answer, field.name, value)
    return answer
