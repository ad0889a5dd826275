"""API tokens: for scripts and MCP clients, limited to scopes and to a time, ended one by one.

A token is signed like an access token, by a key of its own purpose, so that every room checks it itself; its id
stands where a sign-in's does. It is not stored: the same claims and key give the same token again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis import ids
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from context_svc import audit
from context_svc.audit import Entry, Event
from context_svc.errors import AccountNotFound, ApiTokenNotFound, IdempotencyKeyReused, QuotaExceeded
from context_svc.paging import PageTokens, Query, page_size
from context_svc.revocations import EndedSignIn, Feed
from context_svc.signing import AUDIENCE, UserKeys

DEFAULT_TTL = timedelta(days=90)
QUOTA = 50
_QUOTA_WITH_ENDED = 1_000  # every room remembers an ended token until it would have expired


@dataclass(frozen=True, kw_only=True, slots=True)
class NewToken:
    """What a person wants. `scopes` are names, sorted."""

    request_id: str
    name: str
    scopes: tuple[str, ...]
    ttl: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiToken:
    """What is known of a token. Times are microseconds since 1970."""

    id: str
    account: str
    name: str
    scopes: tuple[str, ...]
    key_id: str
    create_us: int
    expire_us: int
    last_use_us: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of tokens; `next_token` is empty at the end."""

    tokens: Sequence[ApiToken]
    next_token: str


class ApiTokens:
    """The API tokens of the calling person."""

    def __init__(
        self, database: Database, clock: Clock, pages: PageTokens, keys: UserKeys, feed: Feed
    ) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages
        self._keys = keys
        self._feed = feed

    async def create(self, user: User, new: NewToken) -> tuple[ApiToken, str]:
        """A token and its secret; the same for the same request again until it was used.

        Raises QuotaExceeded and IdempotencyKeyReused.
        """
        id, key_id, now_us = ids.uuid(), self._keys.api_signer.key_id, self._clock.now_us()

        def unit() -> Unit[ApiToken]:
            return _create(user, new, id, key_id, now_us)

        made = await self._database.write(user.account, unit)
        return made, self._secret(made)

    async def list_page(self, user: User, *, size: int, token: str) -> Page:
        """A page of tokens that are good, the newest first. Raises PageTokenInvalid."""
        query = Query(account=user.account, name="api tokens", filters={})
        after, limit, now_us = (
            self._pages.read(query, token, (int, str)),
            page_size(size),
            self._clock.now_us(),
        )
        found = await self._database.read(lambda: _page(user.account, after, limit + 1, now_us))
        last = found[limit - 1] if len(found) > limit else None
        return Page(
            tokens=found[:limit],
            next_token=self._pages.issue(query, (last.create_us, last.id)) if last else "",
        )

    async def revoke(self, user: User, id: str, *, allow_missing: bool) -> None:
        """End a token in every room. Raises ApiTokenNotFound, unless a missing one is allowed."""
        now_us = self._clock.now_us()

        def unit() -> Unit[tuple[EndedSignIn, ...]]:
            ended = yield from _end(user.account, now_us, id)
            if not ended and not allow_missing:
                raise ApiTokenNotFound
            return ended

        await self._database.write(user.account, unit, committed=self._feed.ended)

    def _secret(self, token: ApiToken) -> str:
        signer = self._keys.api_signer_of(token.key_id)
        if signer is None:
            raise IdempotencyKeyReused("its key has been retired")
        issued = token.create_us // 1_000_000
        return signer.sign(
            {
                "jti": token.id,
                "sub": token.account,
                "sid": token.id,
                "aud": AUDIENCE,
                "iat": issued,
                "nbf": issued,
                "exp": token.expire_us // 1_000_000,
                "scope": " ".join(token.scopes),
            }
        )


def end_all(account: str, now_us: int) -> Unit[tuple[EndedSignIn, ...]]:
    """Part of a unit: end every API token of an account."""
    return (yield from _end(account, now_us, None))


def all_of(account: str, now_us: int) -> Unit[list[ApiToken]]:
    """Part of a unit: the account's tokens that are good, the newest first."""
    return (yield from _page(account, None, QUOTA, now_us))


def last_end(account: str) -> Unit[int]:
    """When the last API token of an account expires by itself, also of those that were ended; 0: none."""
    rows = yield Statement(
        "SELECT CAST(COALESCE(MAX(expire_us), 0) AS BIGINT) AS last_us FROM api_token"
        " WHERE account_id = :account",
        {"account": account},
    )
    last_us: int = rows[0]["last_us"]
    return last_us


def mark_used(id: str, now_us: int) -> Unit[None]:
    """The token came."""
    yield Statement("UPDATE api_token SET last_use_us = :now_us WHERE id = :id", {"id": id, "now_us": now_us})


def _create(user: User, new: NewToken, id: str, key_id: str, now_us: int) -> Unit[ApiToken]:
    held = yield Statement(
        "UPDATE account SET version = version WHERE id = :id RETURNING id", {"id": user.account}
    )
    if not held:
        raise AccountNotFound
    ttl_us = round(new.ttl.total_seconds() * 1e6)
    earlier = yield Statement(
        "SELECT * FROM api_token WHERE account_id = :account AND request_id = :request_id",
        {"account": user.account, "request_id": new.request_id},
    )
    for row in earlier:
        untouched = row["last_use_us"] is None and row["end_us"] is None and row["expire_us"] > now_us
        same = (row["name"], row["scopes"], row["ttl_us"]) == (new.name, " ".join(new.scopes), ttl_us)
        if not (untouched and same):
            raise IdempotencyKeyReused
        return _token(row)
    yield from _within_quota(user.account, now_us)
    rows = yield Statement(
        "INSERT INTO api_token (id, account_id, request_id, name, scopes, key_id, ttl_us, create_us, expire_us)"
        " VALUES (:id, :account, :request_id, :name, :scopes, :key_id, :ttl_us, :now_us, :expire_us) RETURNING *",
        {
            "id": id,
            "account": user.account,
            "request_id": new.request_id,
            "name": new.name,
            "scopes": " ".join(new.scopes),
            "key_id": key_id,
            "ttl_us": ttl_us,
            "now_us": now_us,
            "expire_us": now_us + ttl_us,
        },
    )
    yield from audit.append(
        Entry(event=Event.API_TOKEN_CREATED, at_us=now_us, account=user.account, subject=id)
    )
    return _token(rows[0])


def _within_quota(account: str, now_us: int) -> Unit[None]:
    yield Statement(
        "DELETE FROM api_token WHERE account_id = :account AND expire_us <= :now_us",
        {"account": account, "now_us": now_us},
    )
    rows = yield Statement(
        "SELECT COUNT(*) AS every, COUNT(end_us) AS ended FROM api_token WHERE account_id = :account",
        {"account": account},
    )
    every, ended = rows[0]["every"], rows[0]["ended"]
    if every - ended >= QUOTA or every >= _QUOTA_WITH_ENDED:
        raise QuotaExceeded(quota="API tokens")


def _end(account: str, now_us: int, id: str | None) -> Unit[tuple[EndedSignIn, ...]]:
    rows = yield Statement(
        "UPDATE api_token SET end_us = :now_us WHERE account_id = :account AND end_us IS NULL"
        " AND expire_us > :now_us AND (:every = 1 OR id = :id) RETURNING id, account_id, end_us, expire_us",
        {"account": account, "now_us": now_us, "every": int(id is None), "id": id or ""},
    )
    for row in rows:
        told = Entry(event=Event.API_TOKEN_REVOKED, at_us=now_us, account=account, subject=row["id"])
        yield from audit.append(told)
    return tuple(
        EndedSignIn(
            sign_in=row["id"], account=row["account_id"], end_us=row["end_us"], expire_us=row["expire_us"]
        )
        for row in rows
    )


def _page(account: str, after: Sequence[str | int] | None, limit: int, now_us: int) -> Unit[list[ApiToken]]:
    place = "AND (create_us, id) < (:after_us, :after_id)" if after else ""
    rows = yield Statement(
        "SELECT * FROM api_token WHERE account_id = :account AND end_us IS NULL AND expire_us > :now_us"  # noqa: S608 - ours
        f" {place} ORDER BY create_us DESC, id DESC LIMIT :limit",
        {
            "account": account,
            "now_us": now_us,
            "limit": limit,
            **({"after_us": after[0], "after_id": after[1]} if after else {}),
        },
    )
    return [_token(row) for row in rows]


def _token(row: Row) -> ApiToken:
    return ApiToken(
        id=row["id"],
        account=row["account_id"],
        name=row["name"],
        scopes=tuple(row["scopes"].split()),
        key_id=row["key_id"],
        create_us=row["create_us"],
        expire_us=row["expire_us"],
        last_use_us=row["last_use_us"],
    )
