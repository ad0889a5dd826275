"""What is known, as a turn is told it: facts with their marks, and how the person wants to be answered. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from context_svc.device_context import measured_kind
from context_svc.items import MEMORY_PREFIX, Item, Placement, Source
from context_svc.known import Known
from context_svc.wire import preferences
from context_svc.wire.preferences import Effective
from context_svc.wire.times import timestamp

_SOURCES = {
    preferences.TURN: chat_pb2.MODEL_CHOICE_SOURCE_TURN,
    preferences.SESSION: chat_pb2.MODEL_CHOICE_SOURCE_SESSION,
    preferences.USER: chat_pb2.MODEL_CHOICE_SOURCE_USER,
    preferences.SUGGESTION: chat_pb2.MODEL_CHOICE_SOURCE_SUGGESTION,
}
_UNITS = {context_pb2.UNIT_SYSTEM_METRIC: "metric", context_pb2.UNIT_SYSTEM_IMPERIAL: "imperial"}
_OWN = frozenset({Source.USER, Source.DEVICE})
_TIME_ZONE = "device.time_zone"


def facts(known: Known, total: Effective) -> list[turn_pb2.ContextFact]:
    """What the agent may know, the most telling first: the session's, the device's, memories, the rest."""
    return [_fact(key, item) for key, item in _named(known.items, total.preferences.memory_enabled)]


def manner(known: Known, total: Effective, settings: session_pb2.SessionSettings) -> turn_pb2.Manner:
    """How the person wants to be answered; what only the server says stays unsaid."""
    found = total.preferences
    return turn_pb2.Manner(
        language=found.language,
        time_zone=time_zone(known.items),
        units=_UNITS.get(found.units, "") if total.chosen("units") else "",
        tone=found.tone,
        instructions=settings.instructions,
        parameters=found.parameters if found.HasField("parameters") else None,
    )


def models(layers: Iterable[context_pb2.PreferenceLayer]) -> Iterator[turn_pb2.ModelPreference]:
    """The models that were asked for, strongest choice first."""
    for layer in layers:
        if layer.preferences.model and layer.kind in _SOURCES:
            yield turn_pb2.ModelPreference(model=layer.preferences.model, source=_SOURCES[layer.kind])


def _named(items: Iterable[Item], with_memories: bool) -> list[tuple[str, Item]]:
    """Items under the keys that turns know them by; of each kind that devices measure, the newest."""
    found: dict[tuple[int, str], Item] = {}
    for item in items:
        kind = measured_kind(item.key)
        if kind:
            place = (1, f"device.{kind}")
            if place not in found or _moment(item) > _moment(found[place]):
                found[place] = item
        elif not item.key.startswith(MEMORY_PREFIX):
            found[0 if item.session_id else 3, item.key] = item
        elif with_memories:
            found[2, item.key] = item
    ranked = sorted(found.items(), key=lambda each: each[0][0])  # stable: the newest stay first
    session = {key for (rank, key), _ in ranked if rank == 0}
    return [(key, item) for (rank, key), item in ranked if rank != 3 or key not in session]


def _fact(key: str, item: Item) -> turn_pb2.ContextFact:
    return turn_pb2.ContextFact(
        key=key,
        value_json=_memory(item) if key.startswith(MEMORY_PREFIX) else item.value,
        placement=(
            message_pb2.PLACEMENT_LOCAL_ONLY
            if item.placement is Placement.LOCAL_ONLY
            else message_pb2.PLACEMENT_ANY
        ),
        trust=message_pb2.TRUST_PERSON if item.source in _OWN else message_pb2.TRUST_UNTRUSTED,
        update_time=timestamp(_moment(item)),
    )


def _memory(item: Item) -> str:
    """The words of a memory alone."""
    value = json.loads(item.value)
    text = value.get("text") if isinstance(value, dict) else None
    return json.dumps(text, ensure_ascii=False) if isinstance(text, str) else item.value


def time_zone(items: Iterable[Item]) -> str:
    """The IANA time zone that the newest device tells; empty when none does."""
    for key, item in _named(items, with_memories=False):
        if key == _TIME_ZONE:
            return str(json.loads(item.value).get("timeZone", ""))
    return ""


def _moment(item: Item) -> int:
    return item.update_us if item.measure_us is None else item.measure_us
