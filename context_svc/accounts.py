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
from context_svc import audit, setup_code, throttle
from context_svc.audit import Entry, Event
from context_svc.devices import DeviceInfo, is_known
from context_svc.digests import digest
from context_svc.errors import (
    AccountNotFound,
    CredentialsWrong,
    EmailTaken,
    HashingBusy,
    IdempotencyKeyReused,
    InviteInvalid,
    PasswordWeak,
    SetupCodeWrong,
)
from context_svc.guard import Claim, Guard
from context_svc.networks import shortened
from context_svc.passwords import Passwords
from context_svc.signins import DeviceTokens, Opened, Opening, SignIns
from context_svc.throttle import Reservation

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
    network: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """What a person says to sign a device in. `device_secret` is empty when it has none."""

    email: str
    password: str
    device: DeviceInfo
    device_secret: str
    network: str = ""


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
class Known:
    """An account as the check of its password needs it. `password_us`: when the password was last changed."""

    account: Account
    password_hash: str
    password_us: int


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
        guard: Guard,
        *,
        open_registration: bool,
    ) -> None:
        self._database = database
        self._guard = guard
        self._clock = clock
        self._passwords = passwords
        self._sign_ins = sign_ins
        self._open = open_registration

    async def register(self, registration: Registration) -> SignedIn:
        """Make an account and sign the device in, in one commit.

        Raises SetupCodeWrong, InviteInvalid, EmailTaken, PasswordWeak, HashingBusy, RateLimited and
        IdempotencyKeyReused.
        """
        earlier = await self._database.read(lambda: _registered_by(registration.request_id))
        if earlier is not None:
            return await self._repeat(registration, earlier)
        await self._database.read(lambda: self._allowed(registration, self._clock.now_us()))
        hashed = await self._hashed(registration)
        made = await self._create(registration, hashed)
        if isinstance(made, Known):
            return await self._repeat(registration, made)
        return made

    async def log_in(self, login: Login) -> SignedIn:
        """Sign a device in; its earlier sign-in ends.

        Raises CredentialsWrong, LoginThrottled and HashingBusy.
        """
        key = email_key(login.email)
        known = await self._database.read(lambda: by_email(key))
        account = known.account.id if known else ""
        proved = await self._database.read(lambda: _proved(account, login))
        claim = Claim(
            email_key=key,
            network=login.network,
            account=account,
            stored=known.password_hash if known else "",
            device=login.device.id if proved else "",
        )
        held = await self._guard.check(claim, login.password)
        if known is None:
            raise CredentialsWrong("unknown address")
        if self._passwords.outdated(known.password_hash):
            await self._renew_hash(known, login.password)
        opening = self._sign_ins.prepare(login.device, login.device_secret, login.network)
        return await self._sign_in(known, opening, held)

    async def get(self, account: str) -> Account:
        """One account. Raises AccountNotFound."""
        found = await self._database.read(lambda: _by_id(account))
        if found is None:
            raise AccountNotFound
        return found

    async def exist(self) -> bool:
        """Whether there is any account."""
        return await self._database.read(_any_account)

    async def _repeat(self, registration: Registration, earlier: Known) -> SignedIn:
        """The same request again: only who knows the password is answered as the first time."""
        same = email_key(registration.email) == email_key(earlier.account.email)
        if not await self._passwords.verify(registration.password, earlier.password_hash) or not same:
            raise IdempotencyKeyReused
        opening = self._sign_ins.prepare(registration.device, network=registration.network)
        return await self._sign_in(earlier, opening, None)

    async def _hashed(self, registration: Registration) -> str:
        """The hash to keep; what is refused as weak counts for no limit."""
        held = await self._guard.admit(registration.network)
        try:
            return await self._passwords.hash(registration.password)
        except (PasswordWeak, HashingBusy):
            await self._guard.give_back(held)
            raise

    async def _create(self, registration: Registration, hashed: str) -> SignedIn | Known:
        opening = self._sign_ins.prepare(registration.device, network=registration.network)
        account, now_us = ids.uuid(), self._clock.now_us()

        def unit() -> Unit[_Registered | Known]:
            return self._register(registration, hashed, account, opening, now_us)

        made = await self._database.write("account", unit, committed=self._committed)
        if isinstance(made, Known):
            return made
        return SignedIn(account=made.account, device=self._sign_ins.hand_out(opening, made.opened))

    def _register(
        self, registration: Registration, hashed: str, account: str, opening: Opening, now_us: int
    ) -> Unit[_Registered | Known]:
        earlier = yield from _registered_by(registration.request_id)
        if earlier is not None:
            return earlier
        yield from self._use(registration, account, now_us)
        made = yield from _insert(registration, hashed, account, now_us)
        opened = yield from self._sign_ins.begin(account, opening, now_us)
        yield from _remember(registration, account, now_us)
        yield from audit.append(_told(Event.REGISTERED, account, opening, now_us))
        return _Registered(account=made, opened=opened)

    def _allowed(self, registration: Registration, now_us: int) -> Unit[None]:
        """Refuse early what would be refused in the end: a wrong code costs no hashing."""
        first = not (yield from _any_account())
        kind, hash = _code(registration.permission)
        if self._needs_no_code(first, registration.permission):
            return
        fits = kind == (setup_code.SETUP if first else setup_code.INVITE)
        if not fits or not (yield from setup_code.is_good(hash, kind, now_us, email_key(registration.email))):
            raise _refusal(first or kind == setup_code.SETUP)

    def _use(self, registration: Registration, account: str, now_us: int) -> Unit[None]:
        """Use the permission up. The set-up code's row is the lock: of concurrent first accounts one wins."""
        kind, hash = _code(registration.permission)
        used = bool(hash) and (
            yield from setup_code.use_code(hash, kind, account, now_us, email_key(registration.email))
        )
        first = not (yield from _any_account())
        if self._needs_no_code(first, registration.permission):
            return
        if not used or kind != (setup_code.SETUP if first else setup_code.INVITE):
            raise _refusal(first or kind == setup_code.SETUP)

    def _needs_no_code(self, first: bool, permission: Permission) -> bool:
        return self._open and not first and permission is None

    async def _sign_in(self, known: Known, opening: Opening, held: Reservation | None) -> SignedIn:
        account, now_us = known.account, self._clock.now_us()

        def unit() -> Unit[Opened]:
            yield from hold(known)
            if held is not None:
                yield from throttle.give_back(held)
            opened = yield from self._sign_ins.begin(account.id, opening, now_us)
            yield from audit.append(_told(Event.LOGIN, account.id, opening, now_us))
            return opened

        opened = await self._database.write(account.id, unit, committed=self._sign_ins.began)
        return SignedIn(account=account, device=self._sign_ins.hand_out(opening, opened))

    def _committed(self, made: _Registered | Known) -> None:
        if isinstance(made, _Registered):
            self._sign_ins.began(made.opened)

    async def _renew_hash(self, known: Known, password: str) -> None:
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


def hold(known: Known) -> Unit[None]:
    """Part of a unit, its first step: keep the account's row until the commit.

    Raises CredentialsWrong when it was blocked or got another password since it was read.
    """
    rows = yield Statement(
        "UPDATE account SET version = version WHERE id = :id AND password_us = :password_us"
        " AND blocked_us IS NULL RETURNING id",
        {"id": known.account.id, "password_us": known.password_us},
    )
    if not rows:
        raise CredentialsWrong("blocked, or another password meanwhile")


def _proved(account: str, login: Login) -> Unit[bool]:
    return (yield from is_known(account, login.device.id, digest(login.device_secret)))


def _told(event: Event, account: str, opening: Opening, now_us: int) -> Entry:
    return Entry(
        event=event,
        at_us=now_us,
        account=account,
        subject=opening.sign_in,
        network=shortened(opening.network),
    )


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
    return account_from(rows[0])


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


def _registered_by(request_id: str) -> Unit[Known | None]:
    rows = yield Statement(
        "SELECT a.* FROM registration r JOIN account a ON a.id = r.account_id"
        " WHERE r.request_id = :request_id",
        {"request_id": request_id},
    )
    return known_account(rows[0]) if rows else None


def by_email(key: str) -> Unit[Known | None]:
    """The account of an address."""
    rows = yield Statement("SELECT * FROM account WHERE email_key = :key", {"key": key})
    return known_account(rows[0]) if rows else None


def by_id(account: str) -> Unit[Known | None]:
    """The account of an id."""
    rows = yield Statement("SELECT * FROM account WHERE id = :id", {"id": account})
    return known_account(rows[0]) if rows else None


def _by_id(account: str) -> Unit[Account | None]:
    rows = yield Statement("SELECT * FROM account WHERE id = :id", {"id": account})
    return account_from(rows[0]) if rows else None


def _replace_hash(account: str, old: str, new: str) -> Unit[None]:
    yield Statement(
        "UPDATE account SET password_hash = :new WHERE id = :id AND password_hash = :old",
        {"id": account, "old": old, "new": new},
    )


def known_account(row: Row) -> Known:
    """The account of a row."""
    return Known(
        account=account_from(row),
        password_hash=row["password_hash"],
        password_us=row["password_us"],
    )


def account_from(row: Row) -> Account:
    """The account of a row."""
    return Account(
        id=row["id"],
        email=row["email"],
        display_name=row["display_name"],
        version=row["version"],
        create_us=row["create_us"],
        update_us=row["update_us"],
    )
