"""Claims: what context_svc holds files with, on behalf of messages and jobs that name them. Never awaits.

A claimed file does not expire. When its last claim is released it is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.database import Statement, Unit, Value
from media_svc import library, outbox
from media_svc.errors import IdempotencyKeyReused
from media_svc.library import Media


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Who names which files, in their order. `excluded`: alone, it keeps no file in backups."""

    account: str
    id: str
    session_id: str
    media_ids: tuple[str, ...]
    excluded: bool


def claim(wanted: Claim, now_us: int) -> Unit[Sequence[Media]]:
    """Claim all files or none; again with the same id it answers the same.

    Raises MediaNotFound (metadata `media_id`), IdempotencyKeyReused and TokenRevoked.
    """
    yield from library.lock(wanted.account, now_us)
    held = yield Statement(
        "SELECT media_id FROM claim WHERE account = :account AND id = :id ORDER BY position",
        {"account": wanted.account, "id": wanted.id},
    )
    if held and tuple(row["media_id"] for row in held) != wanted.media_ids:
        raise IdempotencyKeyReused
    found = []
    for media_id in wanted.media_ids:
        found.append((yield from library.find_named(wanted.account, media_id, now_us)))
    if not held:
        yield from _hold(wanted)
    return found


def release(account: str, claim_ids: Sequence[str], now_us: int) -> Unit[None]:
    """Give claims up; what nothing else holds goes, its bytes by the outbox. An unknown claim is no failure."""
    yield from library.hold(account, now_us)
    names: dict[str, Value] = {f"c{index}": each for index, each in enumerate(dict.fromkeys(claim_ids))}
    rows = yield Statement(
        f"DELETE FROM claim WHERE account = :account AND id IN ({', '.join(f':{each}' for each in names)})"  # noqa: S608 - names we made
        " RETURNING media_id",
        {"account": account, **names},
    )
    for media_id in dict.fromkeys(row["media_id"] for row in rows):
        gone = yield Statement(
            "DELETE FROM media WHERE id = :id AND account = :account AND NOT EXISTS"
            " (SELECT 1 FROM claim WHERE media_id = :id) RETURNING blob_key",
            {"id": media_id, "account": account},
        )
        for row in gone:
            yield from outbox.schedule(row["blob_key"], now_us)


def _hold(wanted: Claim) -> Unit[None]:
    for position, media_id in enumerate(wanted.media_ids):
        yield Statement(
            "INSERT INTO claim (account, id, media_id, position, session_id, excluded)"
            " VALUES (:account, :id, :media, :position, :session, :excluded)",
            {
                "account": wanted.account,
                "id": wanted.id,
                "media": media_id,
                "position": position,
                "session": wanted.session_id,
                "excluded": int(wanted.excluded),
            },
        )
        yield Statement("UPDATE media SET expire_us = NULL WHERE id = :media", {"media": media_id})
