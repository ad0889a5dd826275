"""What a device tells of itself, as context items: their keys, and what the person agreed to."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.database import Unit
from context_svc.consents import Kind, of_device
from context_svc.items import DEVICE_PREFIX, Placement


def item_key(device_id: str, kind: Kind) -> str:
    """The key under which a device's measurement is stored."""
    return f"device.{device_id}.{kind.label}"


def is_location(key: str) -> bool:
    """Whether the key is that of a device's position."""
    return key.startswith(DEVICE_PREFIX) and key.endswith(f".{Kind.LOCATION.label}")


def consents(account_id: str, device_id: str) -> Unit[Mapping[int, Placement]]:
    """The kinds this device may report, by number, and where each may be processed."""
    found = yield from of_device(account_id, device_id)
    return {each.kind.number: Placement(each.placement) for each in found if each.granted}
