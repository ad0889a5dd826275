"""The table of preferences: the statements that read and change it. What the layers say is serialised, and opaque."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.database import Row, Statement, Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A person's own preferences, and what they accepted of suggestions; version 0: nothing was ever set."""

    own: bytes = b""
    accepted: bytes = b""
    version: int = 0


def find(account_id: str) -> Unit[Stored]:
    """What is stored."""
    rows = yield Statement(
        "SELECT own, accepted, version FROM preference WHERE account_id = :account", {"account": account_id}
    )
    return _stored(rows[0]) if rows else Stored()


def lock(account_id: str, now_us: int) -> Unit[Stored]:
    """What is stored, held until the commit."""
    rows = yield Statement(
        "INSERT INTO preference (account_id, version, own, accepted, update_us)"
        " VALUES (:account, 0, :empty, :empty, :now)"
        " ON CONFLICT (account_id) DO UPDATE SET version = preference.version"
        " RETURNING own, accepted, version",
        {"account": account_id, "empty": b"", "now": now_us},
    )
    return _stored(rows[0])


def store(account_id: str, new: Stored, *, location_keep_us: int | None, now_us: int) -> Unit[None]:
    """Replace what is stored. `location_keep_us` of None keeps positions until they are deleted."""
    yield Statement(
        "UPDATE preference SET own = :own, accepted = :accepted, version = :version,"
        " location_keep_us = :keep, update_us = :now WHERE account_id = :account",
        {
            "account": account_id,
            "own": new.own,
            "accepted": new.accepted,
            "version": new.version,
            "keep": location_keep_us or 0,
            "now": now_us,
        },
    )


def _stored(row: Row) -> Stored:
    return Stored(own=bytes(row["own"]), accepted=bytes(row["accepted"]), version=row["version"])
