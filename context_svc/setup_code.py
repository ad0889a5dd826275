"""Codes that allow a registration: the set-up code of the first account, and invites.

The set-up code is made from the server's secret and a number in the database, so that it can be shown again
after a restart although the database holds only its hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from context_svc import meta
from context_svc.digests import digest

SETUP, INVITE = "SETUP", "INVITE"
_LETTERS = 20  # base32: 100 bits
_GROUP = 5
_NONCE = "setup_nonce"


class SetupCode:
    """The one-time code of the first account."""

    def __init__(self, database: Database, clock: Clock, key: bytes) -> None:
        self._database = database
        self._clock = clock
        self._key = key

    async def prepare(self) -> None:
        """Make the code at the first start; later it changes nothing."""
        nonce, now_us = ids.uuid(), self._clock.now_us()
        await self._database.write("meta", lambda: self._prepare(nonce, now_us))

    async def show(self) -> str | None:
        """The code as a person types it, or None once there is an account."""
        nonce = await self._database.read(_unused_nonce)
        return None if nonce is None else grouped(self._code(nonce))

    def renew(self, now_us: int) -> Unit[None]:
        """Part of a unit: once the last account is gone, the next one needs a code that nobody has seen."""
        left = yield Statement("SELECT 1 AS one FROM account LIMIT 1")
        if left:
            return
        yield Statement("DELETE FROM registration_code WHERE kind = :kind", {"kind": SETUP})
        yield Statement("DELETE FROM meta WHERE key = :key", {"key": _NONCE})
        yield from self._prepare(ids.uuid(), now_us)

    def _prepare(self, nonce: str, now_us: int) -> Unit[None]:
        kept = yield from meta.keep(_NONCE, nonce)
        yield from add_code(hash_code(self._code(kept)), SETUP, now_us, None)

    def _code(self, nonce: str) -> str:
        whole = hmac.digest(self._key, nonce.encode(), hashlib.sha256)
        return base64.b32encode(whole).decode()[:_LETTERS]


def add_code(hash: str, kind: str, now_us: int, expire_us: int | None, email_key: str = "") -> Unit[None]:
    """Keep a code that allows one registration; one that is kept already stays as it is.

    With an `email_key` it allows only a registration under that address.
    """
    yield Statement(
        "INSERT INTO registration_code (hash, kind, create_us, expire_us, email_key)"
        " VALUES (:hash, :kind, :now_us, :expire_us, :email_key) ON CONFLICT (hash) DO NOTHING",
        {"hash": hash, "kind": kind, "now_us": now_us, "expire_us": expire_us, "email_key": email_key},
    )


def use_code(hash: str, kind: str, account: str, now_us: int, email_key: str = "") -> Unit[bool]:
    """Use a code up; False when it is unknown, used or expired. Of two at once one wins."""
    rows = yield Statement(
        "UPDATE registration_code SET used_us = :now_us, account_id = :account WHERE hash = :hash"
        " AND kind = :kind AND used_us IS NULL AND (expire_us IS NULL OR expire_us > :now_us)"
        " AND email_key IN ('', :email_key) RETURNING hash",
        {"hash": hash, "kind": kind, "account": account, "now_us": now_us, "email_key": email_key},
    )
    return bool(rows)


def is_good(hash: str, kind: str, now_us: int, email_key: str = "") -> Unit[bool]:
    """Whether the code could be used now."""
    rows = yield Statement(
        "SELECT hash FROM registration_code WHERE hash = :hash AND kind = :kind AND used_us IS NULL"
        " AND (expire_us IS NULL OR expire_us > :now_us) AND email_key IN ('', :email_key)",
        {"hash": hash, "kind": kind, "now_us": now_us, "email_key": email_key},
    )
    return bool(rows)


def grouped(code: str) -> str:
    """The code in groups of five letters, to be read out."""
    return "-".join(code[start : start + _GROUP] for start in range(0, len(code), _GROUP))


def hash_code(typed: str) -> str:
    """The hash of a code as typed: case, spaces and dashes do not matter, 0 and 1 are O and I."""
    plain = typed.upper().replace("-", "").replace(" ", "").translate(str.maketrans("01", "OI"))
    return digest(plain)


def _unused_nonce() -> Unit[str | None]:
    rows = yield Statement(
        "SELECT m.value FROM meta m WHERE m.key = :key AND NOT EXISTS (SELECT 1 FROM account)"
        " AND EXISTS (SELECT 1 FROM registration_code WHERE kind = :kind AND used_us IS NULL)",
        {"key": _NONCE, "kind": SETUP},
    )
    return rows[0]["value"] if rows else None
