"""The devices a person signs in with. A device makes its own id and keeps it while the app is installed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from chassis.database import Row, Statement, Unit
from context_svc.networks import shortened


class Platform(IntEnum):
    """What a device is; the numbers are the contract's."""

    UNSPECIFIED = 0
    IOS = 1
    ANDROID = 2
    WEB = 3
    TERMINAL = 4
    OTHER = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceInfo:
    """What a device says about itself when it signs in."""

    id: str
    name: str
    platform: Platform
    app_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A device of a person. Times are microseconds since 1970."""

    id: str
    name: str
    platform: Platform
    app_version: str
    version: int
    create_us: int
    last_use_us: int
    last_network: str


def register_device(
    account: str, info: DeviceInfo, *, presented: str, secret: str, network: str, now_us: int
) -> Unit[Device]:
    """Add the device, or bring what it says up to date; a name that the person gave stays.

    One that was forgotten is a new one.

    `presented` and `secret` are hashes of the device secret it showed and of its new one. The one it showed
    stays good until the new one was used.
    """
    rows = yield Statement(
        "INSERT INTO device (account_id, id, name, platform, app_version, secret_hash, version, create_us,"
        " last_use_us, last_network) VALUES (:account, :id, :name, :platform, :app_version, :secret, 1, :now_us,"
        " :now_us, :network) ON CONFLICT (account_id, id) DO UPDATE SET"
        " name = CASE WHEN device.named_by_person = 1 THEN device.name ELSE excluded.name END,"
        " create_us = CASE WHEN device.forgotten_us IS NULL THEN device.create_us ELSE excluded.create_us END,"
        " forgotten_us = NULL, last_network = excluded.last_network,"
        " platform = excluded.platform, app_version = excluded.app_version,"
        " last_use_us = excluded.last_use_us,"
        " earlier_secret_hash = CASE WHEN device.earlier_secret_hash = :presented"
        " THEN device.earlier_secret_hash ELSE device.secret_hash END,"
        " secret_hash = excluded.secret_hash RETURNING *",
        {
            "account": account,
            "id": info.id,
            "name": info.name,
            "platform": int(info.platform),
            "app_version": info.app_version,
            "presented": presented,
            "secret": secret,
            "network": shortened(network),
            "now_us": now_us,
        },
    )
    return device_from(rows[0])


def forget(account: str, device: str, now_us: int) -> Unit[None]:
    """Make the device's secrets good for nothing, and let it, its name and its consents leave the list."""
    yield Statement(
        "UPDATE device SET secret_hash = NULL, earlier_secret_hash = NULL, named_by_person = 0,"
        " forgotten_us = COALESCE(forgotten_us, :now_us), version = version + 1"
        " WHERE account_id = :account AND id = :device",
        {"account": account, "device": device, "now_us": now_us},
    )
    yield Statement(
        "DELETE FROM device_consent WHERE account_id = :account AND device_id = :device",
        {"account": account, "device": device},
    )


def is_known(account: str, device: str, presented: str) -> Unit[bool]:
    """Whether the device showed a secret (as its hash) that it was given at an earlier sign-in."""
    rows = yield Statement(
        "SELECT id FROM device WHERE account_id = :account AND id = :device"
        " AND (secret_hash = :presented OR earlier_secret_hash = :presented)",
        {"account": account, "device": device, "presented": presented},
    )
    return bool(rows)


def device_of_sign_in(sign_in: str) -> Unit[Device | None]:
    """The device of a sign-in, or None."""
    rows = yield Statement(
        "SELECT d.* FROM sign_in s JOIN device d ON d.account_id = s.account_id AND d.id = s.device_id"
        " WHERE s.id = :sign_in",
        {"sign_in": sign_in},
    )
    return device_from(rows[0]) if rows else None


def device_from(row: Row) -> Device:
    """The device of a row."""
    return Device(
        id=row["id"],
        name=row["name"],
        platform=Platform(row["platform"]),
        app_version=row["app_version"],
        version=row["version"],
        create_us=row["create_us"],
        last_use_us=row["last_use_us"],
        last_network=row["last_network"],
    )
