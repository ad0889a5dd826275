"""What a person changes about their own account: its name, its address, its password."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from context_svc import api_tokens, audit, commands, throttle
from context_svc.accounts import Account, Known, by_email, by_id, email_key, hold
from context_svc.audit import Entry, Event
from context_svc.devices import device_of_sign_in
from context_svc.errors import (
    AccountNotFound,
    CredentialsWrong,
    EmailTaken,
    HashingBusy,
    IdempotencyKeyReused,
    PasswordWeak,
    VersionMismatch,
)
from context_svc.guard import Claim, Guard
from context_svc.passwords import Passwords
from context_svc.revocations import EndedSignIn, Feed
from context_svc.signins import end_others
from context_svc.throttle import Reservation


@dataclass(frozen=True, kw_only=True, slots=True)
class PasswordChange:
    """What a person says to get another password."""

    request_id: str
    current: str
    fresh: str
    with_api_tokens: bool

    def shape(self) -> str:
        """What a repetition has in common with the first request, but for the passwords."""
        return commands.shape("password", self.with_api_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileChange:
    """New values; None leaves what is stored. The password is looked at when the address changes."""

    request_id: str
    display_name: str | None
    email: str | None
    expected_version: int | None
    password: str

    def shape(self) -> str:
        """What a repetition has in common with the first request, but for the password."""
        return commands.shape("profile", self.display_name, self.email, self.expected_version)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Changed:
    devices: int
    ended: tuple[EndedSignIn, ...]


class Profiles:
    """Changes of the caller's own account."""

    def __init__(
        self, database: Database, clock: Clock, passwords: Passwords, guard: Guard, feed: Feed
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._guard = guard
        self._feed = feed

    async def change_password(self, user: User, change: PasswordChange) -> int:
        """Set a new password and end every other sign-in; answer how many devices that signed out.

        Raises CredentialsWrong, LoginThrottled, PasswordWeak, HashingBusy and IdempotencyKeyReused.
        """
        now_us = self._clock.now_us()
        earlier = await self._database.read(
            lambda: commands.answered(user.account, change.request_id, change.shape(), now_us)
        )
        known, claim = await self._claim(user)
        if earlier is not None:
            return await self._repeated(claim, change, earlier)
        held = await self._guard.check(claim, change.current)
        hashed = await self._hashed(change.fresh, held)

        def unit() -> Unit[_Changed]:
            return _set_password(user, known, change, hashed, held, now_us)

        changed = await self._database.write(user.account, unit, committed=self._committed)
        return changed.devices

    async def update(self, user: User, change: ProfileChange) -> Account:
        """The account after the change; the same for the same request again.

        Raises VersionMismatch, EmailTaken, IdempotencyKeyReused and, when the address changes,
        CredentialsWrong, LoginThrottled and HashingBusy.
        """
        now_us = self._clock.now_us()
        earlier = await self._database.read(
            lambda: commands.answered(user.account, change.request_id, change.shape(), now_us)
        )
        known, claim = await self._claim(user)
        held = None
        if earlier is None and change.email is not None and change.email != known.account.email:
            held = await self._guard.check(claim, change.password)
        return await self._database.write(user.account, lambda: _update(known, change, held, now_us))

    async def _claim(self, user: User) -> tuple[Known, Claim]:
        known = await self._database.read(lambda: by_id(user.account))
        device = await self._database.read(lambda: device_of_sign_in(user.sign_in))
        if known is None or device is None:
            raise AccountNotFound
        return known, Claim(
            email_key=email_key(known.account.email),
            network="",
            account=user.account,
            stored=known.password_hash,
            device=device.id,
        )

    async def _hashed(self, password: str, held: Reservation) -> str:
        try:
            return await self._passwords.hash(password)
        except (PasswordWeak, HashingBusy):
            await self._guard.give_back(held)
            raise

    async def _repeated(self, claim: Claim, change: PasswordChange, earlier: str) -> int:
        """The same request again: whoever repeats it knows the password it set."""
        try:
            held = await self._guard.check(claim, change.fresh)
        except CredentialsWrong as error:
            raise IdempotencyKeyReused from error
        await self._guard.give_back(held)
        devices: int = json.loads(earlier)
        return devices

    def _committed(self, changed: _Changed) -> None:
        self._feed.ended(changed.ended)


def replace_password(account: str, hashed: str, now_us: int) -> Unit[None]:
    """Part of a unit: keep the new hash; a sign-in that was checked against the old one fails from now on."""
    yield Statement(
        "UPDATE account SET password_hash = :hashed, password_us = CASE WHEN password_us < :now_us"
        " THEN :now_us ELSE password_us + 1 END WHERE id = :id",
        {"id": account, "hashed": hashed, "now_us": now_us},
    )


def _set_password(
    user: User, known: Known, change: PasswordChange, hashed: str, held: Reservation, now_us: int
) -> Unit[_Changed]:
    yield from hold(known)
    yield from throttle.give_back(held)
    yield from replace_password(user.account, hashed, now_us)
    ended = yield from end_others(user.account, user.sign_in, now_us)
    yield from commands.keep(user.account, change.request_id, change.shape(), json.dumps(len(ended)), now_us)
    yield from audit.append(
        Entry(event=Event.PASSWORD_CHANGED, at_us=now_us, account=user.account, subject=user.sign_in)
    )
    tokens = (yield from api_tokens.end_all(user.account, now_us)) if change.with_api_tokens else ()
    return _Changed(devices=len(ended), ended=(*ended, *tokens))


def _update(known: Known, change: ProfileChange, held: Reservation | None, now_us: int) -> Unit[Account]:
    yield from hold(known)
    if held is not None:
        yield from throttle.give_back(held)
    account = known.account.id
    earlier = yield from commands.answered(account, change.request_id, change.shape(), now_us)
    if earlier is not None:
        return Account(**json.loads(earlier))
    now = yield from by_id(account)
    if now is None:
        raise AccountNotFound
    if change.expected_version not in (None, now.account.version):
        raise VersionMismatch(metadata={"current": str(now.account.version)})
    if held is not None:
        yield from _readdress(known.account, change.email or "", now_us)
    changed = yield from _renamed(account, change, now_us)
    yield from commands.keep(account, change.request_id, change.shape(), json.dumps(_plain(changed)), now_us)
    return changed


def _readdress(account: Account, email: str, now_us: int) -> Unit[None]:
    other = yield from by_email(email_key(email))
    if other is not None and other.account.id != account.id:
        raise EmailTaken
    yield from audit.append(Entry(event=Event.EMAIL_CHANGED, at_us=now_us, account=account.id))


def _renamed(account: str, change: ProfileChange, now_us: int) -> Unit[Account]:
    yield Statement(
        "UPDATE account SET version = version + 1, update_us = :now_us,"
        " display_name = COALESCE(CAST(:name AS TEXT), display_name),"
        " email = COALESCE(CAST(:email AS TEXT), email),"
        " email_key = COALESCE(CAST(:key AS TEXT), email_key) WHERE id = :id",
        {
            "id": account,
            "name": change.display_name,
            "email": change.email,
            "key": None if change.email is None else email_key(change.email),
            "now_us": now_us,
        },
    )
    found = yield from by_id(account)
    if found is None:
        raise AccountNotFound
    return found.account


def _plain(account: Account) -> Mapping[str, str | int]:
    return {
        "id": account.id,
        "email": account.email,
        "display_name": account.display_name,
        "version": account.version,
        "create_us": account.create_us,
        "update_us": account.update_us,
    }
