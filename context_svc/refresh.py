"""Refresh tokens: 256 random bits of which only hashes are kept, each good for one child.

A child is derived from its parent, so that a device whose answer was lost gets the same child again, however
late. Once the child was used, or an access token that came with it, a parent in a second hand means that one
of the two holders is a thief: the family ends. ::

    plant -> token 0 --rotate--> token 1 --rotate--> token 2
                  \\--again, 1 unused: token 1
                   \\--again, 1 used: the family ends
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from chassis.database import Row, Statement, Unit
from context_svc.revocations import EndedSignIn

IDLE_US = round(timedelta(days=30).total_seconds() * 1e6)
ABSOLUTE_US = round(timedelta(days=180).total_seconds() * 1e6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refreshed:
    """The child is there, new or found again."""

    account: str
    sign_in: str
    generation: int
    expire_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """The parent came again after its child was used: the family has ended by it."""

    ended: tuple[EndedSignIn, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The token opens nothing."""

    why: str


Outcome: TypeAlias = Refreshed | Replayed | Refused


def derive(key: bytes, parent: str) -> str:
    """The child of a refresh token: the same for the same parent, unguessable without the server's key."""
    child = hmac.digest(key, parent.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(child).rstrip(b"=").decode()


def plant(sign_in: str, hash: str, now_us: int) -> Unit[int]:
    """Store the first token of a family; answer when it expires."""
    yield _insert(sign_in, hash, 0, now_us, now_us + IDLE_US)
    return now_us + IDLE_US


def rotate(*, parent: str, child: str, device: str, now_us: int) -> Unit[Outcome]:
    """Exchange a token (both given as hashes) for its child."""
    family = yield from _lock(parent)
    if not family:
        return Refused("an unknown token")
    token = yield from _token(parent)
    refusal = _refusal(family[0], token, device, now_us)
    if refusal is not None:
        return refusal
    existing = yield from _find(child)
    if existing and existing[0]["used_us"] is not None:
        return Replayed(ended=(yield from _end_family(family[0], now_us)))
    expire_us = min(now_us + IDLE_US, family[0]["expire_us"])
    if existing:
        yield from _prolong((parent, child), expire_us)
    else:
        yield from _grow(family[0]["id"], parent, child, token["generation"] + 1, now_us, expire_us)
    return Refreshed(
        account=family[0]["account_id"],
        sign_in=family[0]["id"],
        generation=token["generation"] + 1,
        expire_us=expire_us,
    )


def mark_used(sign_in: str, generation: int, now_us: int) -> Unit[None]:
    """An access token of this generation was used: its refresh token has arrived, its parent is spent."""
    yield Statement(
        "UPDATE refresh_token SET used_us = :now_us"
        " WHERE sign_in_id = :sign_in AND generation = :generation AND used_us IS NULL",
        {"sign_in": sign_in, "generation": generation, "now_us": now_us},
    )


def sign_in_of(hash: str) -> Unit[str | None]:
    """The sign-in a token belongs to, or None."""
    rows = yield Statement("SELECT sign_in_id FROM refresh_token WHERE hash = :hash", {"hash": hash})
    return rows[0]["sign_in_id"] if rows else None


def _lock(hash: str) -> Unit[Sequence[Row]]:
    """The family's row, held until the commit: of parallel refreshes one goes first."""
    rows = yield Statement(
        "UPDATE sign_in SET expire_us = expire_us"
        " WHERE id = (SELECT sign_in_id FROM refresh_token WHERE hash = :hash)"
        " RETURNING id, account_id, device_id, expire_us, end_us",
        {"hash": hash},
    )
    return rows


def _token(hash: str) -> Unit[Row]:
    rows = yield from _find(hash)
    return rows[0]


def _find(hash: str) -> Unit[Sequence[Row]]:
    rows = yield Statement(
        "SELECT generation, expire_us, used_us FROM refresh_token WHERE hash = :hash", {"hash": hash}
    )
    return rows


def _refusal(family: Row, token: Row, device: str, now_us: int) -> Refused | None:
    if family["end_us"] is not None:
        return Refused("the sign-in has ended")
    if family["device_id"] != device:
        return Refused("another device")
    if min(family["expire_us"], token["expire_us"]) <= now_us:
        return Refused("expired")
    return None


def _end_family(family: Row, now_us: int) -> Unit[tuple[EndedSignIn, ...]]:
    yield Statement(
        "UPDATE sign_in SET end_us = :now_us WHERE id = :id", {"id": family["id"], "now_us": now_us}
    )
    return (EndedSignIn(sign_in=family["id"], account=family["account_id"], end_us=now_us),)


def _prolong(hashes: Sequence[str], expire_us: int) -> Unit[None]:
    for hash in hashes:
        yield Statement(
            "UPDATE refresh_token SET expire_us = :expire_us WHERE hash = :hash",
            {"hash": hash, "expire_us": expire_us},
        )


def _grow(sign_in: str, parent: str, child: str, generation: int, now_us: int, expire_us: int) -> Unit[None]:
    yield Statement(
        "UPDATE refresh_token SET used_us = COALESCE(used_us, :now_us), expire_us = :expire_us"
        " WHERE hash = :hash",
        {"hash": parent, "now_us": now_us, "expire_us": expire_us},
    )
    yield _insert(sign_in, child, generation, now_us, expire_us)
    yield Statement(
        "DELETE FROM refresh_token WHERE sign_in_id = :sign_in AND expire_us <= :now_us",
        {"sign_in": sign_in, "now_us": now_us},
    )


def _insert(sign_in: str, hash: str, generation: int, now_us: int, expire_us: int) -> Statement:
    return Statement(
        "INSERT INTO refresh_token (hash, sign_in_id, generation, create_us, expire_us)"
        " VALUES (:hash, :sign_in, :generation, :now_us, :expire_us)",
        {
            "hash": hash,
            "sign_in": sign_in,
            "generation": generation,
            "now_us": now_us,
            "expire_us": expire_us,
        },
    )
