"""Between the contract's messages and what the terminal shows of what is known. Pure."""

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

from assistant.context.v1 import context_pb2
from assistant.identity.v1 import identity_pb2
from assistant.message.v1 import message_pb2
from mesh.errors import ValueUnusable
from mesh.known.lines import ConsentLine, MemoryLine, PreferenceLine, SuggestionLine

MEMORY = "memory."
_DAY = 86_400  # seconds
_SWITCH = {"on": True, "off": False}
_PREFERENCES = {
    "model": "model",
    "temperature": "parameters.temperature",
    "longest-answer": "parameters.max_output_tokens",
    "units": "units",
    "language": "language",
    "tone": "tone",
    "memory": "memory_enabled",
    "private": "private_mode",
    "push": "push_enabled",
    "response-cache": "response_cache_enabled",
    "keep-messages": "retention",
    "keep-positions": "location_retention",
}
_VALUES = {
    "units": "metric or imperial.",
    "memory": "on or off.",
    "private": "on or off.",
    "push": "on or off.",
    "response-cache": "on or off.",
    "keep-messages": "A number of days, or `forever`.",
    "keep-positions": "A number of days, or `forever`.",
}
_KINDS = context_pb2.DeviceContextKind.keys()[1:]


def preferences(message: context_pb2.GetPreferencesResponse) -> list[PreferenceLine]:
    """Answer the preferences in force, those that nobody decided with an empty value."""
    lines = []
    for name, path in _PREFERENCES.items():
        decided = message.decided_by.get(path, context_pb2.PREFERENCE_LAYER_KIND_UNSPECIFIED)
        by = context_pb2.PreferenceLayerKind.Name(decided).removeprefix("PREFERENCE_LAYER_KIND_").lower()
        value = _preference(message.effective, path) if decided else ""
        whose = {"user": "you", "unspecified": ""}.get(by, by)
        lines.append(PreferenceLine(name=name, value=value, decided_by=whose))
    return lines


def preferring(request_id: str, name: str, value: str) -> context_pb2.UpdatePreferencesRequest:
    """Answer the change of one preference; an empty value takes it back. Raises ValueUnusable."""
    if name not in _PREFERENCES:
        raise ValueUnusable(f"There is no preference {name}.", f"There are: {', '.join(_PREFERENCES)}.")
    request = context_pb2.UpdatePreferencesRequest(request_id=request_id)
    request.preferences.SetInParent()
    request.update_mask.paths.append(_PREFERENCES[name])
    if value:
        try:
            _set_preference(request.preferences, _PREFERENCES[name], value)
        except ValueError as error:
            raise ValueUnusable(f"{name} cannot be {value}.", _VALUES.get(name, "Give a number.")) from error
    return request


def consents(message: identity_pb2.Device) -> list[ConsentLine]:
    """Answer what a device may report."""
    return [
        ConsentLine(
            kind=context_pb2.DeviceContextKind.Name(each.kind).removeprefix("DEVICE_CONTEXT_KIND_").lower(),
            granted=each.granted,
            where="here only" if each.placement == message_pb2.PLACEMENT_LOCAL_ONLY else "anywhere",
        )
        for each in message.consents
    ]


def deciding(
    request_id: str, device: str, kind: str, *, granted: bool, anywhere: bool
) -> identity_pb2.UpdateDeviceRequest:
    """Answer the decision on one kind. Raises ValueUnusable."""
    kinds = {name.removeprefix("DEVICE_CONTEXT_KIND_").lower(): name for name in _KINDS}
    if kind not in kinds:
        raise ValueUnusable(f"A device does not report {kind}.", f"There are: {', '.join(kinds)}.")
    decided = identity_pb2.DeviceConsent(
        kind=context_pb2.DeviceContextKind.Value(kinds[kind]),
        granted=granted,
        placement=message_pb2.PLACEMENT_ANY if anywhere else message_pb2.PLACEMENT_UNSPECIFIED,
    )
    request = identity_pb2.UpdateDeviceRequest(
        request_id=request_id, device=identity_pb2.Device(id=device, consents=[decided])
    )
    request.update_mask.paths.append("consents")
    return request


def memory(message: context_pb2.ContextItem) -> MemoryLine:
    """Answer a memory."""
    fields = message.value.struct_value.fields
    return MemoryLine(
        id=message.key.removeprefix(MEMORY),
        text=fields["text"].string_value if "text" in fields else "",
        source="you" if message.source == context_pb2.CONTEXT_SOURCE_USER else "the assistant",
        updated=message.update_time.ToDatetime().strftime("%Y-%m-%d %H:%M"),
    )


def remembering(request_id: str, memory: str, text: str, *, version: int) -> context_pb2.UpdateContextRequest:
    """Answer the write of a memory over that version of it; 0: a new one."""
    value = json_format.ParseDict({"text": text}, Value())
    item = context_pb2.ContextItemWrite(key=MEMORY + memory, value=value, expected_version=version)
    return context_pb2.UpdateContextRequest(request_id=request_id, items=[item])


def suggestion(message: context_pb2.Suggestion) -> SuggestionLine:
    """Answer a suggestion."""
    return SuggestionLine(
        id=message.id,
        name=next((name for name, path in _PREFERENCES.items() if path == message.field_path), ""),
        value=_preference(message.proposed, message.field_path),
        state=context_pb2.SuggestionState.Name(message.state).removeprefix("SUGGESTION_STATE_").lower(),
        turns=len(message.evidence),
    )


def _preference(found: context_pb2.Preferences, path: str) -> str:
    """One preference in words."""
    part = found.parameters if "." in path else found
    value = getattr(part, path.rsplit(".", 1)[-1])
    match value:
        case bool():
            return "on" if value else "off"
        case context_pb2.Retention():
            days = value.keep.seconds // _DAY
            return f"{days} days" if value.WhichOneof("rule") == "keep" else "until deleted"
        case _ if path == "units":
            return context_pb2.UnitSystem.Name(value).removeprefix("UNIT_SYSTEM_").lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _set_preference(found: context_pb2.Preferences, path: str, value: str) -> None:
    """Put a value in words where it belongs. Raises ValueError."""
    match path:
        case "parameters.temperature":
            found.parameters.temperature = float(value)
        case "parameters.max_output_tokens":
            found.parameters.max_output_tokens = int(value)
        case "units":
            found.units = context_pb2.UnitSystem.Value(f"UNIT_SYSTEM_{value.upper()}")
        case "retention" | "location_retention":
            kept = getattr(found, path)
            if value == "forever":
                kept.until_deleted = True
            else:
                kept.keep.seconds = int(value) * _DAY
        case "model" | "language" | "tone":
            setattr(found, path, value)
        case _:
            if value not in _SWITCH:
                raise ValueError(value)
            setattr(found, path, _SWITCH[value])
