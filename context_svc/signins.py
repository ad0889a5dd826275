"""Sign-ins: one per device, a family of refresh tokens that ends as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from chassis import failpoints, ids
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from context_svc import audit, refresh
from context_svc.audit import Entry, Event
from context_svc.devices import Device, DeviceInfo, forget, register_device
from context_svc.digests import digest
from context_svc.errors import RefreshTokenInvalid, RefreshTokenReplayed
from context_svc.refresh import Outcome, Refreshed, Refused, Replayed
from context_svc.revocations import EndedSignIn, Feed
from context_svc.signing import AccessTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """What a device holds. Times are microseconds since 1970."""

    access: str
    access_expire_us: int
    refresh: str
    refresh_expire_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """A sign-in about to begin: its id and secrets are made before the unit, which may run twice."""

    sign_in: str
    refresh_token: str
    device_secret: str
    presented_secret: str
    device: DeviceInfo
    network: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A sign-in that began, and the device's earlier one that ended by it."""

    account: str
    sign_in: str
    device: Device
    refresh_expire_us: int
    ended: tuple[EndedSignIn, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceTokens:
    """What a device is given when it signs in."""

    device: Device
    tokens: Tokens
    device_secret: str


class SignIns:
    """Begins, renews and ends sign-ins. What ends is told to every room once it is durable."""

    def __init__(
        self, database: Database, clock: Clock, access: AccessTokens, feed: Feed, key: bytes
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._feed = feed
        self._key = key

    def prepare(self, device: DeviceInfo, presented_secret: str = "", network: str = "") -> Opening:
        """Make the id and the secrets of a sign-in that is to begin."""
        return Opening(
            sign_in=ids.uuid(),
            refresh_token=ids.token(),
            device_secret=ids.token(),
            presented_secret=presented_secret,
            device=device,
            network=network,
        )

    def begin(self, account: str, opening: Opening, now_us: int) -> Unit[Opened]:
        """Part of a unit: register the device, end its earlier sign-in, begin this one."""
        device = yield from register_device(
            account,
            opening.device,
            presented=digest(opening.presented_secret),
            secret=digest(opening.device_secret),
            network=opening.network,
            now_us=now_us,
        )
        ended = yield from end_device(account, device.id, now_us)
        yield Statement(
            "INSERT INTO sign_in (id, account_id, device_id, create_us, expire_us)"
            " VALUES (:id, :account, :device, :now_us, :expire_us)",
            {
                "id": opening.sign_in,
                "account": account,
                "device": device.id,
                "now_us": now_us,
                "expire_us": now_us + refresh.ABSOLUTE_US,
            },
        )
        expire_us = yield from refresh.plant(opening.sign_in, digest(opening.refresh_token), now_us)
        return Opened(
            account=account,
            sign_in=opening.sign_in,
            device=device,
            refresh_expire_us=expire_us,
            ended=ended,
        )

    def began(self, opened: Opened) -> None:
        """To be called when the unit of `begin` is durable."""
        self._feed.ended(opened.ended)

    def hand_out(self, opening: Opening, opened: Opened) -> DeviceTokens:
        """The tokens of a sign-in that began."""
        return DeviceTokens(
            device=opened.device,
            tokens=self._tokens(
                opened.account, opened.sign_in, 0, opening.refresh_token, opened.refresh_expire_us
            ),
            device_secret=opening.device_secret,
        )

    async def refresh(self, token: str, device: str) -> Tokens:
        """The next tokens; the same child for a repeated parent until the child was used.

        Raises RefreshTokenInvalid, and RefreshTokenReplayed when the whole sign-in was ended by it.
        """
        child = refresh.derive(self._key, token)
        now_us = self._clock.now_us()

        def unit() -> Unit[Outcome]:
            outcome = yield from refresh.rotate(
                parent=digest(token), child=digest(child), device=device, now_us=now_us
            )
            for each in outcome.ended if isinstance(outcome, Replayed) else ():
                told = Entry(
                    event=Event.REFRESH_REPLAYED, at_us=now_us, account=each.account, subject=each.sign_in
                )
                yield from audit.append(told)
            return outcome

        outcome = await self._database.write("sign_in", unit, committed=self._refreshed)
        failpoints.reach("refresh_after_rotate_before_reply")
        match outcome:
            case Refreshed():
                return self._tokens(
                    outcome.account, outcome.sign_in, outcome.generation, child, outcome.expire_us
                )
            case Replayed():
                raise RefreshTokenReplayed
            case Refused():
                raise RefreshTokenInvalid(outcome.why)
            case _:
                assert_never(outcome)

    async def end_named(self, *, refresh_token: str, user: User | None, forget_device: bool) -> None:
        """End the sign-in of the refresh token, without one that of `user`; an ended one stays as it was."""
        if refresh_token:
            sign_in = await self._database.read(lambda: refresh.sign_in_of(digest(refresh_token)))
        else:
            sign_in = user.sign_in if user else None
        if sign_in:
            await self.end(sign_in, forget_device=forget_device)

    async def end(self, sign_in: str, *, forget_device: bool = False) -> None:
        """End a sign-in; one that has ended stays as it was. Running turns go on."""
        now_us = self._clock.now_us()
        await self._database.write(
            "sign_in", lambda: _end(sign_in, now_us, forget_device), committed=self._feed.ended
        )

    def _refreshed(self, outcome: Outcome) -> None:
        if isinstance(outcome, Replayed):
            self._feed.ended(outcome.ended)

    def _tokens(
        self, account: str, sign_in: str, generation: int, refresh_token: str, expire_us: int
    ) -> Tokens:
        access = self._access.issue(account=account, sign_in=sign_in, generation=generation)
        return Tokens(
            access=access.text,
            access_expire_us=access.expire_us,
            refresh=refresh_token,
            refresh_expire_us=expire_us,
        )


def ended_sign_ins(rows: Iterable[Row]) -> tuple[EndedSignIn, ...]:
    """The rows of an UPDATE that set `end_us`, as the feed takes them."""
    return tuple(
        EndedSignIn(sign_in=row["id"], account=row["account_id"], end_us=row["end_us"]) for row in rows
    )


def end_device(account: str, device: str, now_us: int) -> Unit[tuple[EndedSignIn, ...]]:
    """Part of a unit: end the device's sign-in, if it has one."""
    rows = yield Statement(
        "UPDATE sign_in SET end_us = :now_us WHERE account_id = :account AND device_id = :device"
        " AND end_us IS NULL RETURNING id, account_id, end_us",
        {"account": account, "device": device, "now_us": now_us},
    )
    return ended_sign_ins(rows)


def end_others(account: str, but: str, now_us: int) -> Unit[tuple[EndedSignIn, ...]]:
    """Part of a unit: end the account's sign-ins but one, and forget the secrets of all other devices.

    With `but` empty none is left out.
    """
    rows = yield Statement(
        "UPDATE sign_in SET end_us = :now_us WHERE account_id = :account AND id <> :but AND end_us IS NULL"
        " RETURNING id, account_id, end_us",
        {"account": account, "but": but, "now_us": now_us},
    )
    yield Statement(
        "UPDATE device SET secret_hash = NULL, earlier_secret_hash = NULL WHERE account_id = :account"
        " AND id NOT IN (SELECT device_id FROM sign_in WHERE id = :but AND account_id = :account)",
        {"account": account, "but": but},
    )
    return ended_sign_ins(rows)


def _end(sign_in: str, now_us: int, forget_device: bool) -> Unit[tuple[EndedSignIn, ...]]:
    rows = yield Statement(
        "UPDATE sign_in SET end_us = :now_us WHERE id = :id AND end_us IS NULL"
        " RETURNING id, account_id, device_id, end_us",
        {"id": sign_in, "now_us": now_us},
    )
    for row in rows:
        if forget_device:
            yield from forget(row["account_id"], row["device_id"], now_us)
        told = Entry(event=Event.LOGOUT, at_us=now_us, account=row["account_id"], subject=sign_in)
        yield from audit.append(told)
    return ended_sign_ins(rows)
