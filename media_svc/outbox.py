"""What is to go from the object store: rows that are worked off until the store has obeyed.

A row is written in the same commit that forgets the file. A key about to be filled gets a row too, due in an
hour: a crash between the bytes and their commit leaves nothing behind. The commit takes that row away, and
can do so only while nobody has begun to act on it.
"""

from __future__ import annotations

from datetime import timedelta

from chassis.database import Statement, Unit

INTENT_US = round(timedelta(hours=1).total_seconds() * 1e6)
_SECOND_US = 1_000_000
_LONGEST_US = 600 * _SECOND_US


def schedule(blob_key: str, due_us: int) -> Unit[None]:
    """Have a key (or, ending with ``/``, all below it) removed from `due_us` on."""
    yield Statement(
        "INSERT INTO blob_removal (blob_key, due_us, attempts) VALUES (:key, :due, 0)"
        " ON CONFLICT (blob_key) DO UPDATE SET due_us = excluded.due_us",
        {"key": blob_key, "due": due_us},
    )


def withdraw(blob_key: str) -> Unit[bool]:
    """Take back a removal nobody has begun; False when it is too late: the bytes are gone, or going."""
    rows = yield Statement(
        "DELETE FROM blob_removal WHERE blob_key = :key AND attempts = 0 RETURNING blob_key",
        {"key": blob_key},
    )
    return bool(rows)


def take_due(now_us: int, limit: int = 100) -> Unit[list[str]]:
    """Begin what is due; each comes up again, later each time, until it is `done`."""
    rows = yield Statement(
        "SELECT blob_key, attempts FROM blob_removal WHERE due_us <= :now ORDER BY due_us LIMIT :limit",
        {"now": now_us, "limit": limit},
    )
    taken = []
    for row in rows:
        began = yield Statement(
            "UPDATE blob_removal SET attempts = attempts + 1, due_us = :again"
            " WHERE blob_key = :key AND due_us <= :now RETURNING blob_key",
            {"key": row["blob_key"], "again": now_us + _pause_us(row["attempts"]), "now": now_us},
        )
        taken += [each["blob_key"] for each in began]
    return taken


def done(blob_key: str) -> Unit[None]:
    """The store has removed it."""
    yield Statement("DELETE FROM blob_removal WHERE blob_key = :key", {"key": blob_key})


def due_below(prefix: str, now_us: int) -> Unit[list[str]]:
    """The removals below a prefix that the store has not done yet; not those of keys about to be filled."""
    rows = yield Statement(
        "SELECT blob_key FROM blob_removal WHERE blob_key LIKE :keys AND (attempts > 0 OR due_us <= :now)",
        {"keys": f"{prefix}%", "now": now_us},
    )
    return [row["blob_key"] for row in rows]


def _pause_us(attempts: int) -> int:
    return min(_SECOND_US << min(attempts, 20), _LONGEST_US)
