"""SessionService's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2 as pb
from chassis.errors import InvalidRequest, Violation
from context_svc.session_rows import Session
from context_svc.sessions import Listed, NewSession, Page, Resumed, SessionChange
from context_svc.turn_rows import OpenTurn
from context_svc.wire.times import timestamp, timestamp_or_none

_SETTINGS = "settings"
_PATHS = frozenset(
    {"title", _SETTINGS, *(f"{_SETTINGS}.{each.name}" for each in pb.SessionSettings.DESCRIPTOR.fields)}
)


def new_session(request: pb.CreateSessionRequest) -> NewSession:
    """What a client wants."""
    return NewSession(
        id=request.session_id.lower(),
        title=request.title,
        settings=settings_bytes(request.settings),
        sealed=request.sealed,
        private=request.settings.private,
        model=request.settings.model,
    )


def settings_bytes(settings: pb.SessionSettings) -> bytes:
    """Settings as they are stored: the same settings are the same bytes."""
    return settings.SerializeToString(deterministic=True)


def is_private(settings: bytes) -> bool:
    """Whether the session is private, by its stored settings."""
    return pb.SessionSettings.FromString(settings).private


def stays_here(settings: bytes, messages: Sequence[bytes]) -> bool:
    """Whether a session, or a stored message, is marked to be processed on the machines of the mesh alone."""
    marks = [message_pb2.Message.FromString(each).placement for each in messages]
    marks.append(pb.SessionSettings.FromString(settings).placement)
    return message_pb2.PLACEMENT_LOCAL_ONLY in marks


def session(listed: Listed, log_epoch: str) -> pb.Session:
    """A session as every device sees it."""
    row = listed.session
    return pb.Session(
        id=row.id,
        title=row.title,
        title_source=pb.TitleSource.ValueType(int(row.title_source)),
        state=pb.SessionState.ValueType(int(row.state)),
        settings=pb.SessionSettings.FromString(row.settings) if row.settings else None,
        version=row.version,
        last_sequence=row.last_sequence,
        log_epoch=log_epoch,
        create_time=timestamp(row.create_us),
        update_time=timestamp(row.update_us),
        end_time=timestamp_or_none(row.end_us),
        device_id=row.device_id,
        sealed=row.sealed,
        preview=row.preview,
        open_turns=len(listed.open_turns),
    )


def page(value: Page, log_epoch: str) -> pb.ListSessionsResponse:
    """A page of sessions."""
    return pb.ListSessionsResponse(
        sessions=[session(listed, log_epoch) for listed in value.sessions], next_page_token=value.next_token
    )


def resumed(value: Resumed, log_epoch: str) -> pb.ResumeSessionResponse:
    """Where a session stands."""
    row = value.listed.session
    return pb.ResumeSessionResponse(
        session=session(value.listed, log_epoch),
        end=pb.SessionCursor(session_id=row.id, log_epoch=log_epoch, sequence=row.last_sequence),
        acknowledged=pb.SessionCursor(session_id=row.id, log_epoch=log_epoch, sequence=value.acknowledged),
        open_turns=[open_turn(turn) for turn in value.listed.open_turns],
    )


def open_turn(turn: OpenTurn) -> pb.OpenTurn:
    """A turn that is not over."""
    return pb.OpenTurn(
        turn_id=turn.turn_id,
        state=pb.TurnState.ValueType(turn.state),
        message_id=turn.message_id,
        sequence=turn.sequence,
        expire_time=timestamp_or_none(turn.expire_us),
    )


def change(request: pb.UpdateSessionRequest) -> Callable[[Session], SessionChange]:
    """What an update does to a stored session. Raises InvalidRequest for a path that names no such field."""
    paths = tuple(dict.fromkeys(request.update_mask.paths))
    _check(paths)

    def apply(stored: Session) -> SessionChange:
        settings = _merged(stored.settings, request.patch.settings, paths)
        return SessionChange(
            title=request.patch.title if "title" in paths else None,
            settings=settings,
            names=paths,
            private=None if settings is None else is_private(settings),
        )

    return apply


def model_set(request: pb.UpdateSessionRequest) -> str:
    """The model that an update names; empty when it names none."""
    paths = request.update_mask.paths
    return request.patch.settings.model if _SETTINGS in paths or f"{_SETTINGS}.model" in paths else ""


def _merged(stored: bytes, patch: pb.SessionSettings, paths: Sequence[str]) -> bytes | None:
    inner = [path.removeprefix(f"{_SETTINGS}.") for path in paths if path.startswith(f"{_SETTINGS}.")]
    if _SETTINGS in paths:
        return settings_bytes(patch)
    if not inner:
        return None
    result = pb.SessionSettings.FromString(stored)
    for name in inner:
        result.ClearField(name)  # type: ignore[arg-type]  # a field's name, checked by `_check`
    FieldMask(paths=inner).MergeMessage(patch, result)
    return settings_bytes(result)


def _check(paths: Iterable[str]) -> None:
    unknown = [path for path in paths if path not in _PATHS]
    if unknown or not paths:
        raise InvalidRequest(
            violations=[
                Violation(
                    field="update_mask",
                    description="must name `title`, `settings` or a field of the settings",
                    rule="update_mask.paths",
                )
            ]
        )
