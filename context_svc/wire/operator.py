"""OperatorService's messages."""

from __future__ import annotations

from assistant.operator.v1 import operator_pb2 as pb
from context_svc.status import RoomSeen, Status
from context_svc.turns import TurnState
from context_svc.wire.times import timestamp

_STATES = {
    True: pb.ROOM_HEALTH_SERVING,
    None: pb.ROOM_HEALTH_UNSPECIFIED,
    False: pb.ROOM_HEALTH_NOT_SERVING,
}


def setup_code(code: str | None) -> pb.GetSetupCodeResponse:
    """The set-up code, if it is still good."""
    return pb.GetSetupCodeResponse(setup_code=code or "", needed=code is not None)


def status(value: Status) -> pb.GetStatusResponse:
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
        read_time=timestamp(value.read_us),
    )


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
