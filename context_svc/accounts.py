"""Accounts: how a person comes to have one, and how they sign in to it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from chassis.errors import ServiceError
from context_svc import setup_code
from context_svc.devices import DeviceInfo
from context_svc.errors import (
    AccountNotFound,
    CredentialsWrong,
    EmailTaken,
    IdempotencyKeyReused,
    InviteInvalid,
    SetupCodeWrong,
)
from context_svc.passwords import Passwords
from context_svc.signins import DeviceTokens, Opened, Opening, SignIns

_REPEATABLE_US = round(timedelta(hours=24).total_seconds() * 1e6)


@dataclass(frozen=True, slots=True)
class SetupPermission:
    """The code that the operator read at the first start."""

    code: str


@dataclass(frozen=True, slots=True)
class InvitePermission:
    """An invite of the operator."""

    code: str


Permission: TypeAlias = SetupPermission | InvitePermission | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """What a new person says. `request_id` is client-made: asked again, the same account answers."""

    request_id: str
    email: str
    display_name: str
    password: str
    device: DeviceInfo
    permission: Permission


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """What a person says to sign a device in. `device_secret` is empty when it has none."""

    email: str
    password: str
    device: DeviceInfo
    device_secret: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A person's account. Times are microseconds since 1970."""

    id: str
    email: str
    display_name: str
    version: int
    create_us: int
    update_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedIn:
    """An account and what its device is given."""

    account: Account
    device: DeviceTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    account: Account
    password_hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Registered:
    account: Account
    opened: Opened


class Accounts:
    """Registers accounts and signs devices in to them."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        passwords: Passwords,
        sign_ins: SignIns,
        *,
        open_registration: bool,
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._sign_ins = sign_ins
        self._open = open_registration

    async def register(self, registration: Registration) -> SignedIn:
        """Make an account and sign the device in, in one commit.

        Raises SetupCodeWrong, InviteInvalid, EmailTaken, PasswordWeak, HashingBusy and IdempotencyKeyReused.
        """
        earlier = await self._database.read(lambda: _registered_by(registration.request_id))
        if earlier is not None:
            return await self._repeat(registration, earlier)
        await self._database.read(lambda: self._allowed(registration, self._clock.now_us()))
        hashed = await self._passwords.hash(registration.password)
        made = await self._create(registration, hashed)
        if isinstance(made, _Known):
            return await self._repeat(registration, made)
        return made

    async def log_in(self, login: Login) -> SignedIn:
        """Sign a device in; its earlier sign-in ends. Raises CredentialsWrong and HashingBusy."""
        known = await self._database.read(lambda: _by_email(email_key(login.email)))
        matches = await self._passwords.verify(login.password, known.password_hash if known else None)
        if known is None or not matches:
            raise CredentialsWrong("wrong password" if known else "unknown address")
        if self._passwords.outdated(known.password_hash):
            await self._renew_hash(known, login.password)
        return await self._sign_in(known.account, self._sign_ins.prepare(login.device, login.device_secret))

    async def get(self, account: str) -> Account:
        """One account. Raises AccountNotFound."""
        found = await self._database.read(lambda: _by_id(account))
        if found is None:
            raise AccountNotFound
        return found

    async def exist(self) -> bool:
        """Whether there is any account."""
        return await self._database.read(_any_account)

    async def _repeat(self, registration: Registration, earlier: _Known) -> SignedIn:
        """The same request again: only who knows the password is answered as the first time."""
        same = email_key(registration.email) == email_key(earlier.account.email)
        if not await self._passwords.verify(registration.password, earlier.password_hash) or not same:
            raise IdempotencyKeyReused
        return await self._sign_in(earlier.account, self._sign_ins.prepare(registration.device))

    async def _create(self, registration: Registration, hashed: str) -> SignedIn | _Known:
        opening = self._sign_ins.prepare(registration.device)
        account, now_us = ids.uuid(), self._clock.now_us()

        def unit() -> Unit[_Registered | _Known]:
            return self._register(registration, hashed, account, opening, now_us)

        made = await self._database.write("account", unit, committed=self._committed)
        if isinstance(made, _Known):
            return made
        return SignedIn(account=made.account, device=self._sign_ins.hand_out(opening, made.opened))

    def _register(
        self, registration: Registration, hashed: str, account: str, opening: Opening, now_us: int
    ) -> Unit[_Registered | _Known]:
        earlier = yield from _registered_by(registration.request_id)
        if earlier is not None:
            return earlier
        yield from self._use(registration, account, now_us)
        made = yield from _insert(registration, hashed, account, now_us)
        opened = yield from self._sign_ins.begin(account, opening, now_us)
        yield from _remember(registration, account, now_us)
        return _Registered(account=made, opened=opened)

    def _allowed(self, registration: Registration, now_us: int) -> Unit[None]:
        """Refuse early what would be refused in the end: a wrong code costs no hashing."""
        first = not (yield from _any_account())
        kind, hash = _code(registration.permission)
        if self._needs_no_code(first, registration.permission):
            return
        fits = kind == (setup_code.SETUP if first else setup_code.INVITE)
        if not fits or not (yield from setup_code.is_good(hash, kind, now_us)):
            raise _refusal(first or kind == setup_code.SETUP)

    def _use(self, registration: Registration, account: str, now_us: int) -> Unit[None]:
        """Use the permission up. The set-up code's row is the lock: of concurrent first accounts one wins."""
        kind, hash = _code(registration.permission)
        used = bool(hash) and (yield from setup_code.use_code(hash, kind, account, now_us))
        first = not (yield from _any_account())
        if self._needs_no_code(first, registration.permission):
            return
        if not used or kind != (setup_code.SETUP if first else setup_code.INVITE):
            raise _refusal(first or kind == setup_code.SETUP)

    def _needs_no_code(self, first: bool, permission: Permission) -> bool:
        return self._open and not first and permission is None

    async def _sign_in(self, account: Account, opening: Opening) -> SignedIn:
        now_us = self._clock.now_us()

        def unit() -> Unit[Opened]:
            return self._sign_ins.begin(account.id, opening, now_us)

        opened = await self._database.write(account.id, unit, committed=self._sign_ins.began)
        return SignedIn(account=account, device=self._sign_ins.hand_out(opening, opened))

    def _committed(self, made: _Registered | _Known) -> None:
        if isinstance(made, _Registered):
            self._sign_ins.began(made.opened)

    async def _renew_hash(self, known: _Known, password: str) -> None:
        fresh = await self._passwords.rehash(password)
        await self._database.write(
            known.account.id, lambda: _replace_hash(known.account.id, known.password_hash, fresh)
        )


def email_key(email: str) -> str:
    """What makes two addresses the same: their letters without regard to case or composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email).casefold())


def _code(permission: Permission) -> tuple[str, str]:
    match permission:
        case SetupPermission(code):
            return setup_code.SETUP, setup_code.hash_code(code)
        case InvitePermission(code):
            return setup_code.INVITE, setup_code.hash_code(code)
        case None:
            return "", ""


def _refusal(first: bool) -> ServiceError:
    return SetupCodeWrong() if first else InviteInvalid()


def _any_account() -> Unit[bool]:
    rows = yield Statement("SELECT 1 AS one FROM account LIMIT 1")
    return bool(rows)


def _insert(registration: Registration, hashed: str, account: str, now_us: int) -> Unit[Account]:
    rows = yield Statement(
        "INSERT INTO account (id, email, email_key, display_name, password_hash, version, create_us,"
        " update_us) VALUES (:id, :email, :email_key, :display_name, :password_hash, 1, :now_us, :now_us)"
        " ON CONFLICT (email_key) DO NOTHING RETURNING *",
        {
            "id": account,
            "email": registration.email,
            "email_key": email_key(registration.email),
            "display_name": registration.display_name,
            "password_hash": hashed,
            "now_us": now_us,
        },
    )
    if not rows:
        raise EmailTaken
    return _account(rows[0])


def _remember(registration: Registration, account: str, now_us: int) -> Unit[None]:
    yield Statement(
        "INSERT INTO registration (request_id, account_id, device_id, create_us)"
        " VALUES (:request_id, :account, :device, :now_us)",
        {
            "request_id": registration.request_id,
            "account": account,
            "device": registration.device.id,
            "now_us": now_us,
        },
    )
    yield Statement(
        "DELETE FROM registration WHERE create_us < :before_us", {"before_us": now_us - _REPEATABLE_US}
    )


def _registered_by(request_id: str) -> Unit[_Known | None]:
    rows = yield Statement(
        "SELECT a.* FROM registration r JOIN account a ON a.id = r.account_id"
        " WHERE r.request_id = :request_id",
        {"request_id": request_id},
    )
    return _known(rows[0]) if rows else None


def _by_email(key: str) -> Unit[_Known | None]:
    rows = yield Statement("SELECT * FROM account WHERE email_key = :key", {"key": key})
    return _known(rows[0]) if rows else None


def _by_id(account: str) -> Unit[Account | None]:
    rows = yield Statement("SELECT * FROM account WHERE id = :id", {"id": account})
    return _account(rows[0]) if rows else None


def _replace_hash(account: str, old: str, new: str) -> Unit[None]:
    yield Statement(
        "UPDATE account SET password_hash = :new WHERE id = :id AND password_hash = :old",
        {"id": account, "old": old, "new": new},
    )


def _known(row: Row) -> _Known:
    return _Known(account=_account(row), password_hash=row["password_hash"])


def _account(row: Row) -> Account:
    return Account(
        id=row["id"],
        email=row["email"],
        display_name=row["display_name"],
        version=row["version"],
        create_us=row["create_us"],
        update_us=row["update_us"],
    )
