"""OperatorService's messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from assistant.operator.v1 import operator_pb2 as pb
from context_svc.backups import Backup, Restored
from context_svc.status import RoomSeen, Status
from context_svc.turn_rows import TurnState
from context_svc.users import Invite, Page, Revoked, Summary
from context_svc.wire.times import timestamp

_STATES = {
    True: pb.ROOM_HEALTH_SERVING,
    None: pb.ROOM_HEALTH_UNSPECIFIED,
    False: pb.ROOM_HEALTH_NOT_SERVING,
}


def setup_code(code: str | None) -> pb.GetSetupCodeResponse:
    """The set-up code, if it is still good."""
    return pb.GetSetupCodeResponse(setup_code=code or "", needed=code is not None)


def status(value: Status, backups: Sequence[Backup]) -> pb.GetStatusResponse:
    """The state of the mesh."""
    return pb.GetStatusResponse(
        version=value.version,
        healthy=value.healthy,
        rooms=[_room(each) for each in value.rooms],
        setup_needed=value.setup_needed,
        running_turns=value.turns.get(TurnState.RUNNING, 0),
        queued_turns=value.turns.get(TurnState.QUEUED, 0),
        waiting_turns=value.turns.get(TurnState.WAITING, 0),
        log_epoch=value.log_epoch,
        backups=[backup(each) for each in backups],
        read_time=timestamp(value.read_us),
    )


def backup(value: Backup) -> pb.Backup:
    """A backup."""
    return pb.Backup(
        id=value.id,
        location=value.location,
        size=value.size,
        sha256=value.sha256,
        version=value.version,
        snapshot_time=timestamp(value.snapshot_us),
        expire_time=timestamp(value.expire_us),
    )


def restored(value: Restored) -> pb.RestoreBackupResponse:
    """What a restore did."""
    return pb.RestoreBackupResponse(
        log_epoch=value.log_epoch,
        previous_state=backup(value.previous),
        reapplied_erasures=value.reapplied,
    )


def invite(value: Invite) -> pb.CreateInviteResponse:
    """An invite. Where the page is this room does not know: the link stays empty."""
    return pb.CreateInviteResponse(invite_code=value.code, expire_time=timestamp(value.expire_us))


def ttl(request: pb.CreateInviteRequest) -> timedelta | None:
    """How long an invite is to hold, if it was said."""
    return request.ttl.ToTimedelta() if request.HasField("ttl") else None


def revoked(value: Revoked) -> pb.RevokeUserResponse:
    """What was ended."""
    return pb.RevokeUserResponse(revoked_devices=value.devices, revoked_api_tokens=value.api_tokens)


def users(page: Page) -> pb.ListUsersResponse:
    """A page of accounts."""
    return pb.ListUsersResponse(users=[_user(each) for each in page.users], next_page_token=page.next_token)


def _user(value: Summary) -> pb.UserSummary:
    return pb.UserSummary(
        account_id=value.account.id,
        email=value.account.email,
        display_name=value.account.display_name,
        state=_account_state(value),
        create_time=timestamp(value.account.create_us),
        last_use_time=None
        if value.last_use_us is None
        else timestamp(value.last_use_us // 60_000_000 * 60_000_000),
        device_count=value.devices,
        session_count=value.sessions,
    )


def _account_state(value: Summary) -> pb.AccountState.ValueType:
    if value.deleting:
        return pb.ACCOUNT_STATE_DELETING
    return pb.ACCOUNT_STATE_BLOCKED if value.blocked else pb.ACCOUNT_STATE_ACTIVE


def _room(seen: RoomSeen) -> pb.RoomStatus:
    return pb.RoomStatus(
        name=seen.name,
        instance_id=seen.instance,
        version=seen.version,
        health=_STATES[seen.serving],
        open_streams=seen.open_streams,
        parts={name: _STATES[serving] for name, serving in seen.parts.items()},
        start_time=None if seen.start_us is None else timestamp(seen.start_us),
        heard_time=timestamp(seen.heard_us),
    )
