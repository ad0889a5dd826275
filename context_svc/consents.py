"""A person's consent, device by device and kind by kind, that the device reports something about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from chassis.database import Row, Statement, Unit


class Kind(IntEnum):
    """What a device may report; the numbers are the contract's."""

    LOCATION = 1
    LOCALE = 2
    TIME_ZONE = 3
    BATTERY = 4
    NETWORK = 5

    @property
    def number(self) -> int:
        """The contract's number."""
        return int(self)

    @property
    def label(self) -> str:
        """Its name in the key of an item."""
        return self.name.lower()


class Placement(IntEnum):
    """Where it may be processed; the numbers are the contract's."""

    ANY = 1
    LOCAL_ONLY = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """What the person decided about one kind, and when, in microseconds since 1970."""

    kind: Kind
    granted: bool
    placement: Placement
    update_us: int


Then: TypeAlias = Callable[[], None]
"""What is done once the commit stands. Must not raise."""

Obey: TypeAlias = Callable[[str, str, Sequence[Consent], int], Unit[Then]]
"""Part of a unit: let what a device (account, device) stored follow these decisions, at this time: delete what
lost its consent, and mark the rest where it may be processed now."""


def default_placement(kind: Kind) -> Placement:
    """Where a kind may be processed when the person said nothing else: the location stays here."""
    return Placement.LOCAL_ONLY if kind is Kind.LOCATION else Placement.ANY


def of_device(account: str, device: str) -> Unit[tuple[Consent, ...]]:
    """The consents of a device, in the order of their kinds; a kind without one has none."""
    rows = yield Statement(
        "SELECT * FROM device_consent WHERE account_id = :account AND device_id = :device ORDER BY kind",
        {"account": account, "device": device},
    )
    return tuple(_consent(row) for row in rows)


def of_devices(account: str) -> Unit[dict[str, tuple[Consent, ...]]]:
    """The consents of all devices of an account, by device."""
    rows = yield Statement(
        "SELECT * FROM device_consent WHERE account_id = :account ORDER BY device_id, kind",
        {"account": account},
    )
    found: dict[str, tuple[Consent, ...]] = {}
    for row in rows:
        found[row["device_id"]] = (*found.get(row["device_id"], ()), _consent(row))
    return found


def decide(account: str, device: str, decided: Iterable[Consent]) -> Unit[None]:
    """Part of a unit: set these, leave the others."""
    for each in decided:
        yield Statement(
            "INSERT INTO device_consent (account_id, device_id, kind, granted, placement, update_us)"
            " VALUES (:account, :device, :kind, :granted, :placement, :update_us)"
            " ON CONFLICT (account_id, device_id, kind) DO UPDATE SET granted = excluded.granted,"
            " placement = excluded.placement, update_us = excluded.update_us",
            {
                "account": account,
                "device": device,
                "kind": int(each.kind),
                "granted": int(each.granted),
                "placement": int(each.placement),
                "update_us": each.update_us,
            },
        )


def none_at_all(now_us: int) -> tuple[Consent, ...]:
    """The decisions of a person who takes every consent back."""
    return tuple(
        Consent(kind=kind, granted=False, placement=default_placement(kind), update_us=now_us)
        for kind in Kind
    )


def _consent(row: Row) -> Consent:
    return Consent(
        kind=Kind(row["kind"]),
        granted=bool(row["granted"]),
        placement=Placement(row["placement"]),
        update_us=row["update_us"],
    )
