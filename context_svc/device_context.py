"""What a device tells of itself, as context items: their keys, and what the person agreed to."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.database import Unit
from context_svc.consents import Kind, of_device
from context_svc.items import DEVICE_PREFIX, Placement

_LABELS = frozenset(kind.label for kind in Kind)


def item_key(device_id: str, kind: Kind) -> str:
    """The key under which a device's measurement is stored."""
    return f"device.{device_id}.{kind.label}"


def is_location(key: str) -> bool:
    """Whether the key is that of a device's position."""
    return measured_kind(key) == Kind.LOCATION.label


def measured_kind(key: str) -> str:
    """The kind that is stored under a device's key; empty for every other key."""
    label = key.rsplit(".", 1)[-1]
    return label if key.startswith(DEVICE_PREFIX) and label in _LABELS else ""


def consents(account_id: str, device_id: str) -> Unit[Mapping[int, Placement]]:
    """The kinds this device may report, by number, and where each may be processed."""
    found = yield from of_device(account_id, device_id)
    return {each.kind.number: Placement(each.placement) for each in found if each.granted}
