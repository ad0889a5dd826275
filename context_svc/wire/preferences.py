"""Preferences on the wire, and what their layers add up to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2 as pb
from assistant.session.v1 import session_pb2
from chassis.errors import InvalidRequest, Violation
from context_svc.context_items import LOCATION_KEEP_US
from context_svc.preference_rows import Stored
from context_svc.preferences import Layers, PreferenceChange
from context_svc.wire.items import command

_PARAMETERS: Final = "parameters"
TURN, SESSION, USER, SUGGESTION, SERVER = (
    pb.PREFERENCE_LAYER_KIND_TURN,
    pb.PREFERENCE_LAYER_KIND_SESSION,
    pb.PREFERENCE_LAYER_KIND_USER,
    pb.PREFERENCE_LAYER_KIND_SUGGESTION,
    pb.PREFERENCE_LAYER_KIND_SERVER,
)


def _server() -> pb.Preferences:
    return pb.Preferences(
        units=pb.UNIT_SYSTEM_METRIC,
        memory_enabled=True,
        retention=pb.Retention(until_deleted=True),
        location_retention=_keep(LOCATION_KEEP_US),
        private_mode=False,
        push_enabled=True,
        response_cache_enabled=False,
    )


def _keep(span_us: int) -> pb.Retention:
    kept = pb.Retention()
    kept.keep.FromMicroseconds(span_us)
    return kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Effective:
    """The sum of some layers, and which of them decided each field, by path."""

    preferences: pb.Preferences
    decided_by: dict[str, pb.PreferenceLayerKind.ValueType]

    def chosen(self, path: str) -> bool:
        """Whether the field is set, and not by the server alone."""
        return self.decided_by.get(path, SERVER) != SERVER


def layers(
    stored: Stored, settings: bytes | None = None, options: chat_pb2.TurnOptions | None = None
) -> list[pb.PreferenceLayer]:
    """All layers there are, strongest first."""
    found = []
    if options is not None:
        found.append(pb.PreferenceLayer(kind=TURN, preferences=of_turn(options)))
    if settings is not None:
        found.append(pb.PreferenceLayer(kind=SESSION, preferences=of_session(settings)))
    found.append(pb.PreferenceLayer(kind=USER, preferences=pb.Preferences.FromString(stored.own)))
    accepted = pb.Preferences.FromString(stored.accepted)
    found.append(pb.PreferenceLayer(kind=SUGGESTION, preferences=accepted))
    return [*found, pb.PreferenceLayer(kind=SERVER, preferences=_server())]


def of_turn(options: chat_pb2.TurnOptions) -> pb.Preferences:
    """What a message asks for."""
    said = pb.Preferences()
    _copy(options, said, ("model", "units", "language", "tone"))
    if options.HasField(_PARAMETERS):
        said.parameters.CopyFrom(options.parameters)
    if options.use_response_cache:
        said.response_cache_enabled = True
    return said


def of_session(data: bytes) -> pb.Preferences:
    """What a session's settings say."""
    settings = session_pb2.SessionSettings.FromString(data)
    said = pb.Preferences()
    _copy(settings, said, ("model", "units", "language", "tone"))
    if settings.HasField(_PARAMETERS):
        said.parameters.CopyFrom(settings.parameters)
    if settings.HasField("private"):
        said.private_mode = settings.private
        if settings.private:
            said.memory_enabled = False
    if settings.HasField("retention"):
        span_us = settings.retention.ToMicroseconds()
        said.retention.CopyFrom(_keep(span_us) if span_us > 0 else pb.Retention(until_deleted=True))
    return said


def effective(found: Iterable[pb.PreferenceLayer]) -> Effective:
    """The strongest word on each field. Each field of the parameters is decided on its own."""
    whole, decided = pb.Preferences(), dict[str, pb.PreferenceLayerKind.ValueType]()
    for layer in found:
        for path, source, target in _fields(layer.preferences, whole):
            name = path.rsplit(".", 1)[-1]
            if path not in decided and _has(source, name):
                _take(source, target(), name)
                decided[path] = layer.kind
    return Effective(preferences=whole, decided_by=decided)


def response(value: Layers) -> pb.GetPreferencesResponse:
    """The preferences in force, and where each comes from."""
    found = layers(value.stored, value.session)
    total = effective(found)
    return pb.GetPreferencesResponse(
        effective=total.preferences,
        decided_by=total.decided_by,
        layers=found,
        version=value.stored.version,
    )


def change(request: pb.UpdatePreferencesRequest, account_id: str) -> PreferenceChange:
    """A checked change. Raises InvalidRequest for a path that names no preference."""
    new = request.preferences
    paths = tuple(dict.fromkeys(request.update_mask.paths)) or tuple(_present(new))
    known = {path for path, _, _ in _fields(new, new)} | {_PARAMETERS}
    if unknown := [path for path in paths if path not in known]:
        raise InvalidRequest(
            violations=[
                Violation(
                    field="update_mask", description=f"{each} is no preference", rule="preferences.path"
                )
                for each in unknown
            ]
        )

    def apply(stored: bytes) -> bytes:
        own = pb.Preferences.FromString(stored)
        for path in paths:
            _replace(new, own, path)
        if own.HasField(_PARAMETERS) and not own.parameters.ByteSize():
            own.ClearField(_PARAMETERS)
        return own.SerializeToString(deterministic=True)

    return PreferenceChange(
        command=command(request, account_id),
        apply=apply,
        model=new.model if "model" in paths else "",
        expected_version=request.expected_version if request.HasField("expected_version") else None,
    )


def kept_us(settings: bytes, stored: Stored) -> int | None:
    """For how many microseconds a session keeps its messages; None: until deleted."""
    return _span_us(effective(layers(stored, settings)).preferences.retention)


def memory_enabled(settings: bytes, stored: Stored) -> bool:
    """Whether memories are proposed and used in a session."""
    return effective(layers(stored, settings)).preferences.memory_enabled


class Choices:
    """Reads the explicit choices that learning looks at."""

    def of_turn(self, options: bytes) -> dict[str, str]:
        """What a message chose itself, by field."""
        return _learned(of_turn(chat_pb2.TurnOptions.FromString(options)))

    def preferred(self, stored: Stored) -> dict[str, str]:
        """What the person prefers or accepted already, by field."""
        return _learned(effective(layers(stored)[:-1]).preferences)


def _learned(found: pb.Preferences) -> dict[str, str]:
    units = {"units": pb.UnitSystem.Name(found.units)} if found.units else {}
    return units | {name: value for name in ("model", "language") if (value := getattr(found, name))}


class PreferenceWords:
    """Reads and writes what the room stores of preferences."""

    def updated(self, stored: Stored) -> bytes:
        """A serialised UpdatePreferencesResponse."""
        own = pb.Preferences.FromString(stored.own)
        return pb.UpdatePreferencesResponse(preferences=own, version=stored.version).SerializeToString()

    def location_keep_us(self, stored: Stored) -> int | None:
        """For how many microseconds positions are kept; None: until deleted."""
        return _span_us(effective(layers(stored)).preferences.location_retention)

    def accepted(self, before: bytes, field: str, value: str) -> bytes:
        """The layer of accepted suggestions with one more in it."""
        layer = pb.Preferences.FromString(before)
        layer.MergeFrom(proposed(field, value))
        return layer.SerializeToString(deterministic=True)

    def settled(self, settings: bytes, stored: Stored) -> bytes:
        """The settings of a new session: private where the person prefers that and it says nothing itself."""
        said = session_pb2.SessionSettings.FromString(settings)
        if said.HasField("private") or not effective(layers(stored)).preferences.private_mode:
            return settings
        said.private = True
        return said.SerializeToString(deterministic=True)


def proposed(field: str, value: str) -> pb.Preferences:
    """What a suggestion proposes: one field."""
    if field == "units":
        return pb.Preferences(units=pb.UnitSystem.Value(value))
    return pb.Preferences(**{field: value})  # type: ignore[arg-type]  # a field that holds text


def _span_us(kept: pb.Retention) -> int | None:
    return kept.keep.ToMicroseconds() if kept.WhichOneof("rule") == "keep" else None


def _fields(
    source: pb.Preferences, target: pb.Preferences
) -> Iterator[tuple[str, Message, Callable[[], Message]]]:
    """Every field that is decided on its own: its path, the message it stands in, and where it is written."""
    for field in pb.Preferences.DESCRIPTOR.fields:
        if field.name != _PARAMETERS:
            yield field.name, source, lambda: target
    for field in source.parameters.DESCRIPTOR.fields:
        yield f"{_PARAMETERS}.{field.name}", source.parameters, lambda: target.parameters


def _present(source: pb.Preferences) -> Iterator[str]:
    return (path for path, part, _ in _fields(source, source) if _has(part, path.rsplit(".", 1)[-1]))


def _has(message: Message, name: str) -> bool:
    if message.DESCRIPTOR.fields_by_name[name].has_presence:
        return message.HasField(name)
    return bool(getattr(message, name))


def _take(source: Message, target: Message, name: str) -> None:
    """Copy one field that is there, in place of what was."""
    target.ClearField(name)
    value = getattr(source, name)
    if isinstance(value, Message):
        getattr(target, name).CopyFrom(value)
    elif isinstance(value, str | bytes) or not isinstance(value, Sequence):
        setattr(target, name, value)
    else:
        getattr(target, name).extend(value)


def _copy(source: Message, target: Message, names: Iterable[str]) -> None:
    for name in names:
        if _has(source, name) and getattr(source, name):
            _take(source, target, name)


def _replace(new: pb.Preferences, own: pb.Preferences, path: str) -> None:
    name = path.rsplit(".", 1)[-1]
    source: Message = new.parameters if "." in path else new
    target: Message = own.parameters if "." in path else own
    target.ClearField(name)
    if _has(source, name):
        _take(source, target, name)
