"""Accounts as the operator sees them: in figures, and what the operator may do to them. Never content."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from context_svc import api_tokens, audit, commands, setup_code
from context_svc.accounts import Account, account_from, email_key
from context_svc.audit import Entry, Event
from context_svc.deletions import is_ending
from context_svc.errors import AccountNotFound, IdempotencyKeyReused
from context_svc.paging import PageTokens, Query, page_size
from context_svc.passwords import Passwords
from context_svc.profiles import replace_password
from context_svc.revocations import EndedSignIn, Feed
from context_svc.setup_code import INVITE, grouped, hash_code
from context_svc.signins import end_others

_INVITE_TTL = timedelta(days=7)
_LETTERS = 20  # base32: 100 bits
_SHOWN_US = round(timedelta(minutes=10).total_seconds() * 1e6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """An account in figures. Times are microseconds since 1970."""

    account: Account
    blocked: bool
    deleting: bool
    last_use_us: int | None
    devices: int
    sessions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of accounts; `next_token` is empty at the end."""

    users: Sequence[Summary]
    next_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Invite:
    """A code for one registration, and its end in microseconds since 1970."""

    code: str
    expire_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Revoked:
    """What a command of the operator ended."""

    devices: int
    api_tokens: int
    ended: tuple[EndedSignIn, ...]


class Users:
    """What the owner of the machine may do to accounts. Every change is in the audit log."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        pages: PageTokens,
        passwords: Passwords,
        feed: Feed,
        key: bytes,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages
        self._passwords = passwords
        self._feed = feed
        self._key = key

    async def list_page(self, *, size: int, token: str) -> Page:
        """A page of accounts, the oldest first. Raises PageTokenInvalid."""
        query = Query(account="", name="users", filters={})
        after, limit, now_us = (
            self._pages.read(query, token, (int, str)),
            page_size(size),
            self._clock.now_us(),
        )
        found = await self._database.read(lambda: _page(after, limit + 1, now_us))
        last = found[limit - 1].account if len(found) > limit else None
        return Page(
            users=found[:limit],
            next_token=self._pages.issue(query, (last.create_us, last.id)) if last else "",
        )

    async def invite(self, request_id: str, *, ttl: timedelta | None, email: str) -> Invite:
        """An invite; the same for the same request again while it is unused. Raises IdempotencyKeyReused."""
        code = self._letters("invite", request_id)
        ttl_us, now_us = round((ttl or _INVITE_TTL).total_seconds() * 1e6), self._clock.now_us()

        def unit() -> Unit[Invite]:
            return _invite(code, ttl_us, email_key(email), now_us)

        return await self._database.write("invite", unit)

    async def reset_password(self, request_id: str, account: str, password: str) -> str:
        """Set a password (with none given one is made and answered) and end the account's sign-ins.

        Raises AccountNotFound, PasswordWeak, HashingBusy and IdempotencyKeyReused.
        """
        made = "" if password else self._letters("password", request_id)
        hashed, now_us = await self._passwords.hash(password or made), self._clock.now_us()
        shape = commands.shape("reset", hmac.digest(self._key, password.encode(), hashlib.sha256).hex())

        def unit() -> Unit[tuple[Revoked, bool]]:
            yield from _hold(account)
            at = yield from commands.answered(account, request_id, shape, now_us)
            if at is not None:
                return Revoked(devices=0, api_tokens=0, ended=()), now_us - int(at) <= _SHOWN_US
            yield from replace_password(account, hashed, now_us)
            ended = yield from end_others(account, "", now_us)
            yield from commands.keep(account, request_id, shape, str(now_us), now_us)
            yield from audit.append(Entry(event=Event.PASSWORD_RESET, at_us=now_us, account=account))
            return Revoked(devices=len(ended), api_tokens=0, ended=ended), True

        _, shown = await self._database.write(
            account, unit, committed=lambda done: self._feed.ended(done[0].ended)
        )
        return made if shown else ""

    async def revoke(self, request_id: str, account: str, *, block: bool) -> Revoked:
        """End everything that is signed in; blocked, it cannot sign in again until this is called without.

        Raises AccountNotFound and IdempotencyKeyReused.
        """
        now_us = self._clock.now_us()

        def unit() -> Unit[Revoked]:
            return _revoke(request_id, account, block, now_us)

        return await self._database.write(
            account, unit, committed=lambda revoked: self._feed.ended(revoked.ended)
        )

    def _letters(self, purpose: str, request_id: str) -> str:
        """A secret that the same request gets again, and nobody else without the server's key."""
        whole = hmac.digest(self._key, f"{purpose} {request_id}".encode(), hashlib.sha256)
        return grouped(base64.b32encode(whole).decode()[:_LETTERS])


def _hold(account: str) -> Unit[bool]:
    """The account's row, kept until the commit; answers whether it is blocked.

    Raises AccountNotFound, also once it was deleted.
    """
    rows = yield Statement(
        "UPDATE account SET version = version WHERE id = :id RETURNING blocked_us", {"id": account}
    )
    if not rows or (yield from is_ending(account)):
        raise AccountNotFound
    return rows[0]["blocked_us"] is not None


def _invite(code: str, ttl_us: int, key: str, now_us: int) -> Unit[Invite]:
    hash = hash_code(code)
    rows = yield Statement(
        "SELECT create_us, expire_us, used_us, email_key FROM registration_code WHERE hash = :hash",
        {"hash": hash},
    )
    if rows:
        same = rows[0]["email_key"] == key and rows[0]["expire_us"] - rows[0]["create_us"] == ttl_us
        if not same or rows[0]["used_us"] is not None:
            raise IdempotencyKeyReused
        return Invite(code=code, expire_us=rows[0]["expire_us"])
    yield from setup_code.add_code(hash, INVITE, now_us, now_us + ttl_us, key)
    yield from audit.append(Entry(event=Event.INVITE_CREATED, at_us=now_us))
    return Invite(code=code, expire_us=now_us + ttl_us)


def _revoke(request_id: str, account: str, block: bool, now_us: int) -> Unit[Revoked]:
    was_blocked = yield from _hold(account)
    shape = commands.shape("revoke", block)
    earlier = yield from commands.answered(account, request_id, shape, now_us)
    if earlier is not None:
        counts = [int(each) for each in earlier.split()]
        return Revoked(devices=counts[0], api_tokens=counts[1], ended=())
    yield Statement(
        "UPDATE account SET blocked_us = :blocked_us WHERE id = :id",
        {"id": account, "blocked_us": now_us if block else None},
    )
    ended = yield from end_others(account, "", now_us)
    tokens = yield from api_tokens.end_all(account, now_us)
    yield from commands.keep(account, request_id, shape, f"{len(ended)} {len(tokens)}", now_us)
    yield from audit.append(Entry(event=Event.USER_REVOKED, at_us=now_us, account=account))
    if block != was_blocked:
        event = Event.USER_BLOCKED if block else Event.USER_UNBLOCKED
        yield from audit.append(Entry(event=event, at_us=now_us, account=account))
    return Revoked(devices=len(ended), api_tokens=len(tokens), ended=(*ended, *tokens))


def _page(after: Sequence[str | int] | None, limit: int, now_us: int) -> Unit[list[Summary]]:
    place = "WHERE (a.create_us, a.id) > (:after_us, :after_id)" if after else ""
    rows = yield Statement(
        "SELECT a.*, (SELECT COUNT(*) FROM deletion e WHERE e.account_id = a.id) AS erasures,"  # noqa: S608 - ours
        " (SELECT MAX(d.last_use_us) FROM device d WHERE d.account_id = a.id) AS last_use_us,"
        " (SELECT COUNT(*) FROM sign_in s WHERE s.account_id = a.id AND s.end_us IS NULL"
        " AND s.expire_us > :now_us) AS devices"
        f" FROM account a {place} ORDER BY a.create_us, a.id LIMIT :limit",
        {
            "limit": limit,
            "now_us": now_us,
            **({"after_us": after[0], "after_id": after[1]} if after else {}),
        },
    )
    return [_summary(row) for row in rows]


def _summary(row: Row) -> Summary:
    return Summary(
        account=account_from(row),
        blocked=row["blocked_us"] is not None,
        deleting=row["erasures"] > 0,
        last_use_us=row["last_use_us"],
        devices=row["devices"],
        sessions=row["session_count"],
    )
