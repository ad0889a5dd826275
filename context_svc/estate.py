"""Everything that this room keeps of a person, table by table: what leaves with an export and goes with an erasure.

A table of the schema that is not named here fails a test: whoever adds one says which rows are a person's, and which
file of the archive they leave in or why they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.database import Statement, Unit

BATCH = 2_000  # rows of one table that one commit removes

_SESSIONS = "session_id IN (SELECT id FROM session WHERE account_id = :account)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """Rows of a table that are a person's: those for which `owned` holds.

    `exported` names the file of the archive that they leave in; else `unexported` says why they do not.
    """

    table: str
    owned: str = "account_id = :account"
    exported: str = ""
    unexported: str = ""


ESTATE: tuple[Holding, ...] = (
    Holding(
        table="import_chunk",
        owned="import_id IN (SELECT id FROM account_import WHERE account_id = :account)",
        unexported="an archive on its way in, gone when it is applied",
    ),
    Holding(table="account_import", unexported="figures about a command"),
    Holding(table="account_export", unexported="ids of commands"),
    Holding(
        table="summary",
        owned=_SESSIONS,
        unexported="made of messages, which are exported; made anew elsewhere",
    ),
    Holding(
        table="message_search",
        owned=_SESSIONS,
        unexported="digests of words; an import finds its messages anew",
    ),
    Holding(table="search_key", unexported="a secret that is of use to this index alone"),
    Holding(table="event", owned=_SESSIONS, exported="events"),
    Holding(table="message", owned=_SESSIONS, exported="messages"),
    Holding(
        table="pending",
        owned="turn_id IN (SELECT id FROM turn WHERE account_id = :account)",
        unexported="what open turns asked; the question and its answer are in the events",
    ),
    Holding(table="turn", owned=_SESSIONS, exported="turns"),
    Holding(
        table="job_receipt",
        unexported="what titles, summaries and other jobs in the background cost; not in an archive yet",
    ),
    Holding(table="reservation", unexported="money set aside for runs of this moment"),
    Holding(table="ledger", unexported="sums by the day of what the receipts say"),
    Holding(table="idempotency", unexported="ids and digests that guard this mesh against repeats"),
    Holding(
        table="acknowledgement",
        owned=_SESSIONS,
        unexported="how far each device has read, in numbers of this mesh's log",
    ),
    Holding(
        table="job",
        unexported="work for later of this mesh; what it makes is in the sessions",
    ),
    Holding(
        table="context_item",
        owned="scope_id IN (SELECT id FROM context_scope WHERE account_id = :account)",
        exported="context_items",
    ),
    Holding(
        table="context_command", unexported="answers kept for a day, for repeats; their items are exported"
    ),
    Holding(table="suggestion", exported="suggestions"),
    Holding(table="preference", exported="preferences"),
    Holding(table="context_scope", unexported="counters"),
    Holding(table="reminder", exported="reminders"),
    Holding(table="session", exported="sessions"),
    Holding(table="device_consent", exported="devices"),
    Holding(
        table="refresh_token",
        owned="sign_in_id IN (SELECT id FROM sign_in WHERE account_id = :account)",
        unexported="a secret's digest",
    ),
    Holding(
        table="sign_in",
        unexported="when it was used last is in the devices; ids and digests are of no use elsewhere",
    ),
    Holding(table="api_token", exported="api_tokens"),
    Holding(table="registration", unexported="the id of a command"),
    Holding(table="command", unexported="answers kept for a day, for repeats; the account is exported"),
    Holding(table="device", exported="devices"),
    Holding(
        table="registration_code",
        owned="kind = 'invite' AND (account_id = :account OR email_key ="
        " (SELECT a.email_key FROM account a WHERE a.id = :account))",
        unexported="a used code's digest, and the address that it was for",
    ),
)
"""In the order in which rows go. The row of `account` goes last, by `context_svc.deletions`."""

ACCOUNT = Holding(table="account", owned="id = :account", exported="account")

NOT_PERSONAL = {
    "erasure": "ids of what is gone, so that a restore does not bring it back",
    "backup": "where the backups of the mesh lie",
    "deletion": "ids of accounts that are gone: whose tokens are bad, and what a restore has to erase again",
    "audit": "append only: ids and shortened networks, never content",
    "audit_head": "the end of the audit log",
    "message_index": "digests under the account's key; its rows leave with those of message_search",
    "message_search_gone": "numbers of rows that are to leave the index",
    "meta": "the mesh's own ids",
    "owner": "processes",
    "schema_migration": "versions of the schema",
    "throttle": "digests under a key of the server",
}
"""Tables without content of a person, and why they may stay when the person goes."""


def erase_session(session_id: str) -> Unit[bool]:
    """Remove up to `BATCH` rows of a session's log; False when none is left."""
    removed = 0
    for table in ("event", "message"):
        rows = yield Statement(
            f"DELETE FROM {table} WHERE session_id = :session AND sequence IN (SELECT sequence FROM {table}"  # noqa: S608 - our names
            " WHERE session_id = :session ORDER BY sequence LIMIT :limit) RETURNING sequence",
            {"session": session_id, "limit": BATCH},
        )
        removed += len(rows)
    return removed > 0


def erase_rest(account: str) -> Unit[None]:
    """Remove everything that belongs to the account but its own row."""
    for holding in ESTATE:
        yield Statement(
            f"DELETE FROM {holding.table} WHERE {holding.owned}",  # noqa: S608 - our names
            {"account": account},
        )


def remains(account: str) -> Unit[dict[str, int]]:
    """How many rows of the account each table holds, its own row not counted; empty when nothing is left."""
    found = {}
    for holding in ESTATE:
        rows = yield Statement(
            f"SELECT CAST(COUNT(*) AS BIGINT) AS n FROM {holding.table} WHERE {holding.owned}",  # noqa: S608 - our names
            {"account": account},
        )
        if rows[0]["n"]:
            found[holding.table] = rows[0]["n"]
    return found


def sessions_of(account: str, limit: int = 100) -> Unit[Sequence[str]]:
    """Some of the account's sessions."""
    rows = yield Statement(
        "SELECT id FROM session WHERE account_id = :account ORDER BY id LIMIT :limit",
        {"account": account, "limit": limit},
    )
    return [row["id"] for row in rows]
