"""A person's devices as they see them: the list, their names and consents, and signing one out from afar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from context_svc import audit, commands, consents
from context_svc.audit import Entry, Event
from context_svc.consents import Consent, Obey, Then
from context_svc.devices import Device, device_from, forget
from context_svc.errors import ConsentOfAnother, DeviceNotFound, VersionMismatch
from context_svc.paging import PageTokens, Query, page_size
from context_svc.revocations import EndedSignIn, Feed
from context_svc.signins import end_device

_COLUMNS = (
    "d.*, EXISTS (SELECT 1 FROM sign_in s JOIN refresh_token r ON r.sign_in_id = s.id"
    " WHERE s.account_id = d.account_id AND s.device_id = d.id AND s.end_us IS NULL AND s.expire_us > :now_us"
    " AND r.expire_us > :now_us) AS signed_in"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A device with what is known of it at this moment. `current`: it makes this call."""

    device: Device
    consents: tuple[Consent, ...]
    signed_in: bool
    current: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of devices; `next_token` is empty at the end."""

    devices: Sequence[Listed]
    next_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceChange:
    """New values of one device: None and no consents leave what is stored."""

    request_id: str
    device: str
    name: str | None
    consents: tuple[Consent, ...]
    expected_version: int | None

    def shape(self) -> str:
        """What a repetition has in common with the first request."""
        decided = [[int(each.kind), each.granted, int(each.placement)] for each in self.consents]
        return commands.shape("device", self.device, self.name, decided, self.expected_version)


class DeviceList:
    """The devices of the calling person. Another person's device is not found."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        pages: PageTokens,
        feed: Feed,
        obey: Obey,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages
        self._feed = feed
        self._obey = obey

    async def of_sign_in(self, sign_in: str) -> Listed | None:
        """The device of a sign-in, or None when there is no such sign-in (an API token has none)."""
        now_us = self._clock.now_us()
        return await self._database.read(lambda: _calling(sign_in, now_us))

    async def list_page(self, user: User, *, size: int, token: str) -> Page:
        """A page, the device used last first. Raises PageTokenInvalid."""
        query = Query(account=user.account, name="devices", filters={})
        after, limit, now_us = (
            self._pages.read(query, token, (int, str)),
            page_size(size),
            self._clock.now_us(),
        )
        found = await self._database.read(lambda: _page(user, after, limit + 1, now_us))
        last = found[limit - 1].device if len(found) > limit else None
        return Page(
            devices=found[:limit],
            next_token=self._pages.issue(query, (last.last_use_us, last.id)) if last else "",
        )

    async def change(self, user: User, change: DeviceChange) -> Listed:
        """The device after the change; the same for the same request again.

        Raises DeviceNotFound, VersionMismatch, ConsentOfAnother and IdempotencyKeyReused.
        """
        now_us = self._clock.now_us()
        listed, _ = await self._database.write(
            user.account, lambda: self._change(user, change, now_us), committed=_perform
        )
        return listed

    async def revoke(self, user: User, device: str, *, allow_missing: bool) -> None:
        """Sign a device out and forget it. Raises DeviceNotFound, unless a missing one is allowed."""
        now_us = self._clock.now_us()

        def unit() -> Unit[tuple[tuple[EndedSignIn, ...], Then]]:
            if (yield from _held(user.account, device)) is None:
                if allow_missing:
                    return (), _nothing
                raise DeviceNotFound
            ended = yield from end_device(user.account, device, now_us)
            yield from forget(user.account, device, now_us)
            yield from audit.append(
                Entry(event=Event.DEVICE_REVOKED, at_us=now_us, account=user.account, subject=device)
            )
            then = yield from self._obey(user.account, device, consents.none_at_all(now_us), now_us)
            return ended, then

        def committed(outcome: tuple[tuple[EndedSignIn, ...], Then]) -> None:
            self._feed.ended(outcome[0])
            outcome[1]()

        await self._database.write(user.account, unit, committed=committed)

    def _change(self, user: User, change: DeviceChange, now_us: int) -> Unit[tuple[Listed, Then]]:
        held = yield from _held(user.account, change.device)
        earlier = yield from commands.answered(user.account, change.request_id, change.shape(), now_us)
        calling = yield from _calling(user.sign_in, now_us)
        here = calling is not None and calling.device.id == change.device
        if held is None:
            raise DeviceNotFound
        then = _nothing
        if earlier is None:
            then = yield from self._apply(user.account, change, held, here, now_us)
        row = yield from _one(user.account, change.device, now_us)
        decided = yield from consents.of_device(user.account, change.device)
        return _listed(row, decided, current=here), then

    def _apply(self, account: str, change: DeviceChange, held: Device, here: bool, now_us: int) -> Unit[Then]:
        if change.expected_version not in (None, held.version):
            raise VersionMismatch(metadata={"current": str(held.version)})
        if not here and any(each.granted for each in change.consents):
            raise ConsentOfAnother
        yield from consents.decide(account, held.id, change.consents)
        then = yield from self._obey(account, held.id, change.consents, now_us)
        yield _renamed(account, held.id, change.name)
        yield from commands.keep(account, change.request_id, change.shape(), json.dumps(None), now_us)
        if change.consents:
            told = Entry(event=Event.CONSENT_CHANGED, at_us=now_us, account=account, subject=held.id)
            yield from audit.append(told)
        return then


def _perform(outcome: tuple[Listed, Then]) -> None:
    outcome[1]()


def _nothing() -> None:
    """What is to be done after a commit that changed no context."""


def _held(account: str, device: str) -> Unit[Device | None]:
    """The device's row, kept until the commit; None for a forgotten one too."""
    rows = yield Statement(
        "UPDATE device SET version = version WHERE account_id = :account AND id = :device"
        " AND forgotten_us IS NULL RETURNING *",
        {"account": account, "device": device},
    )
    return device_from(rows[0]) if rows else None


def _renamed(account: str, device: str, name: str | None) -> Statement:
    return Statement(
        "UPDATE device SET version = version + 1, name = CASE WHEN :given = 1 THEN :name ELSE name END,"
        " named_by_person = CASE WHEN :given = 1 THEN 1 ELSE named_by_person END"
        " WHERE account_id = :account AND id = :device",
        {"account": account, "device": device, "given": int(name is not None), "name": name or ""},
    )


def _one(account: str, device: str, now_us: int) -> Unit[Row]:
    rows = yield Statement(
        f"SELECT {_COLUMNS} FROM device d WHERE d.account_id = :account AND d.id = :device",  # noqa: S608 - ours
        {"account": account, "device": device, "now_us": now_us},
    )
    return rows[0]


def _calling(sign_in: str, now_us: int) -> Unit[Listed | None]:
    rows = yield Statement(
        f"SELECT {_COLUMNS} FROM sign_in c JOIN device d"  # noqa: S608 - ours
        " ON d.account_id = c.account_id AND d.id = c.device_id WHERE c.id = :sign_in",
        {"sign_in": sign_in, "now_us": now_us},
    )
    if not rows:
        return None
    decided = yield from consents.of_device(rows[0]["account_id"], rows[0]["id"])
    return _listed(rows[0], decided, current=True)


def _page(user: User, after: Sequence[str | int] | None, limit: int, now_us: int) -> Unit[list[Listed]]:
    calling = yield from _calling(user.sign_in, now_us)
    decided = yield from consents.of_devices(user.account)
    place = "AND (d.last_use_us, d.id) < (:use_us, :id)" if after else ""
    rows = yield Statement(
        f"SELECT {_COLUMNS} FROM device d WHERE d.account_id = :account"  # noqa: S608 - ours
        f" AND d.forgotten_us IS NULL {place} ORDER BY d.last_use_us DESC, d.id DESC LIMIT :limit",
        {
            "account": user.account,
            "now_us": now_us,
            "limit": limit,
            **({"use_us": after[0], "id": after[1]} if after else {}),
        },
    )
    here = calling.device.id if calling else ""
    return [_listed(row, decided.get(row["id"], ()), current=row["id"] == here) for row in rows]


def _listed(row: Row, decided: tuple[Consent, ...], *, current: bool) -> Listed:
    return Listed(
        device=device_from(row), consents=decided, signed_in=bool(row["signed_in"]), current=current
    )
