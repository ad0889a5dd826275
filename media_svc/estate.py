"""Everything that this room keeps of a person, table by table: what leaves with an export and goes with an erasure.

A table of the schema that is not named here fails a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.database import Statement, Unit
from media_svc import library, outbox
from media_svc.blobs import kept_prefix, parts_prefix
from media_svc.library import Media

_PAGE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """Rows of a table that belong to `:account`. `unexported` says why they are in no export; empty: they are."""

    table: str
    owned: str
    unexported: str = ""


ESTATE: tuple[Holding, ...] = (
    Holding(
        table="claim",
        owned="account = :account",
        unexported="which messages hold a file is in the messages; an import claims anew",
    ),
    Holding(
        table="upload_part",
        owned="upload_id IN (SELECT id FROM upload WHERE account = :account)",
        unexported="half a file is no file yet",
    ),
    Holding(table="upload", owned="account = :account", unexported="half a file is no file yet"),
    Holding(table="media", owned="account = :account"),
    Holding(table="holder", owned="account = :account", unexported="a lock, without content"),
)
"""In the order in which rows go."""

NOT_PERSONAL = {
    "blob_removal": "keys of bytes that are to go: they hold digests and ids",
    "erased_media": "ids of files that are gone, so that a restore does not bring them back",
    "erased_account": "ids of accounts that are gone, so that nothing late is kept for them",
    "schema_migration": "versions of the schema",
}
"""Tables without anything of a person, and why they may stay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """Where in the store the bytes of a closed account lie, and the removals there that were due when it closed.

    Removals that come later are of bytes that were on their way: they stand until the store has done each.
    """

    prefixes: Sequence[str]
    removals: Sequence[str]


def close(account: str, job_id: str, now_us: int) -> Unit[Closed]:
    """From now on nothing is kept for this account any more."""
    yield from library.hold(account, now_us)
    yield Statement(
        "INSERT INTO erased_account (account, job_id, create_us) VALUES (:account, :job, :now)"
        " ON CONFLICT (account) DO NOTHING",
        {"account": account, "job": job_id, "now": now_us},
    )
    rows = yield Statement("SELECT id FROM upload WHERE account = :account", {"account": account})
    prefixes = [kept_prefix(account), *(parts_prefix(row["id"]) for row in rows)]
    removals = []
    for prefix in prefixes:
        removals += yield from outbox.due_below(prefix, now_us)
    return Closed(prefixes=prefixes, removals=removals)


def erase(account: str, closed: Closed, now_us: int) -> Unit[None]:
    """Forget all rows of a closed account, whose bytes are gone from where they lay.

    A process that dies while it stores a part leaves no word of it: each upload's place is looked at once more.
    """
    for holding in ESTATE:
        yield Statement(
            f"DELETE FROM {holding.table} WHERE {holding.owned}",  # noqa: S608 - our names
            {"account": account},
        )
    for key in closed.removals:
        yield from outbox.done(key)
    for prefix in closed.prefixes[1:]:
        yield from outbox.schedule(prefix, now_us + outbox.INTENT_US)


def files(account: str, after: str, now_us: int) -> Unit[Sequence[Media]]:
    """A page of the account's files, by id from behind `after`."""
    rows = yield Statement(
        "SELECT * FROM media WHERE account = :account AND id > :after"
        " AND (expire_us IS NULL OR expire_us > :now) ORDER BY id LIMIT :limit",
        {"account": account, "after": after, "now": now_us, "limit": _PAGE},
    )
    return [library.from_row(row) for row in rows]
