"""Consent per kind of device context. It lives on the device's record, which IdentityService changes; read here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from chassis.database import Statement, Unit
from context_svc.items import Placement


class Kind(Enum):
    """What a device can tell, with the contract's number and the name in an item's key."""

    LOCATION = (1, "location")
    LOCALE = (2, "locale")
    TIME_ZONE = (3, "time_zone")
    BATTERY = (4, "battery")
    NETWORK = (5, "network")

    @property
    def number(self) -> int:
        """The contract's number."""
        return self.value[0]

    @property
    def label(self) -> str:
        """The last part of its item's key."""
        return self.value[1]


def item_key(device_id: str, kind: Kind) -> str:
    """The key under which a device's measurement is stored."""
    return f"device.{device_id}.{kind.label}"


def consents(account_id: str, device_id: str) -> Unit[Mapping[int, Placement]]:
    """The kinds this device may report, by number, and where each may be processed."""
    rows = yield Statement(
        "SELECT kind, placement FROM device_consent"
        " WHERE account_id = :account AND device_id = :device AND granted = 1",
        {"account": account_id, "device": device_id},
    )
    return {row["kind"]: _placement(row["kind"], row["placement"]) for row in rows}


def _placement(kind: int, stored: int) -> Placement:
    if stored != Placement.UNSPECIFIED:
        return Placement(stored)
    return Placement.LOCAL_ONLY if kind == Kind.LOCATION.number else Placement.ANY
