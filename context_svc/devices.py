"""The devices a person signs in with. A device makes its own id and keeps it while the app is installed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from chassis.database import Row, Statement, Unit


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


def register_device(
    account: str, info: DeviceInfo, *, presented: str, secret: str, now_us: int
) -> Unit[Device]:
    """Add the device, or bring what it says up to date; a name that the person gave stays.

    `presented` and `secret` are hashes of the device secret it showed and of its new one. The one it showed
    stays good until the new one was used.
    """
    rows = yield Statement(
        "INSERT INTO device (account_id, id, name, platform, app_version, secret_hash, version, create_us,"
        " last_use_us) VALUES (:account, :id, :name, :platform, :app_version, :secret, 1, :now_us, :now_us)"
        " ON CONFLICT (account_id, id) DO UPDATE SET"
        " name = CASE WHEN device.named_by_person = 1 THEN device.name ELSE excluded.name END,"
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
            "now_us": now_us,
        },
    )
    return _device(rows[0])


def forget_secret(account: str, device: str) -> Unit[None]:
    """Make the device's secrets good for nothing."""
    yield Statement(
        "UPDATE device SET secret_hash = NULL, earlier_secret_hash = NULL"
        " WHERE account_id = :account AND id = :device",
        {"account": account, "device": device},
    )


def device_of_sign_in(sign_in: str) -> Unit[Device | None]:
    """The device of a sign-in, or None."""
    rows = yield Statement(
        "SELECT d.* FROM sign_in s JOIN device d ON d.account_id = s.account_id AND d.id = s.device_id"
        " WHERE s.id = :sign_in",
        {"sign_in": sign_in},
    )
    return _device(rows[0]) if rows else None


def _device(row: Row) -> Device:
    return Device(
        id=row["id"],
        name=row["name"],
        platform=Platform(row["platform"]),
        app_version=row["app_version"],
        version=row["version"],
        create_us=row["create_us"],
        last_use_us=row["last_use_us"],
    )
