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
    "erased_account": "ids of accounts that are gone, so that nothing late is kept for them",
    "schema_migration": "versions of the schema",
}
"""Tables without anything of a person, and why they may stay."""


def close(account: str, job_id: str, now_us: int) -> Unit[Sequence[str]]:
    """From now on nothing is kept for this account any more. Answers where in the store its bytes lie."""
    yield from library.hold(account, now_us)
    yield Statement(
        "INSERT INTO erased_account (account, job_id, create_us) VALUES (:account, :job, :now)"
        " ON CONFLICT (account) DO NOTHING",
        {"account": account, "job": job_id, "now": now_us},
    )
    rows = yield Statement("SELECT id FROM upload WHERE account = :account", {"account": account})
    return [kept_prefix(account), *(parts_prefix(row["id"]) for row in rows)]


def erase(account: str, prefixes: Sequence[str]) -> Unit[None]:
    """Forget all rows of a closed account, whose bytes below these prefixes are gone."""
    for holding in ESTATE:
        yield Statement(
            f"DELETE FROM {holding.table} WHERE {holding.owned}",  # noqa: S608 - our names
            {"account": account},
        )
    for prefix in prefixes:
        yield from outbox.done_below(prefix)


def files(account: str, after: str, now_us: int) -> Unit[Sequence[Media]]:
    """A page of the account's files, by id from behind `after`."""
    rows = yield Statement(
        "SELECT * FROM media WHERE account = :account AND id > :after"
        " AND (expire_us IS NULL OR expire_us > :now) ORDER BY id LIMIT :limit",
        {"account": account, "after": after, "now": now_us, "limit": _PAGE},
    )
    return [library.from_row(row) for row in rows]
