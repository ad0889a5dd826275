"""The audit log: what was done to accounts and keys, and by which sign-in. Append only, without content.

Each entry holds the hash of the one before it, so that none can be taken out or changed without a trace. ::

    hash(n) = SHA-256(sequence, time, event, account, subject, network, hash(n - 1))
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum

from chassis.database import Row, Statement, Unit

_PAGE = 1_000


class Event(Enum):
    """What happened. The names are stored: none may be changed."""

    REGISTERED = "registered"
    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGIN_LIMIT_REACHED = "login_limit_reached"
    REGISTRATION_LIMIT_REACHED = "registration_limit_reached"
    LOGOUT = "logout"
    REFRESH_REPLAYED = "refresh_replayed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a name
    EMAIL_CHANGED = "email_changed"
    DEVICE_REVOKED = "device_revoked"
    CONSENT_CHANGED = "consent_changed"
    API_TOKEN_CREATED = "api_token_created"  # noqa: S105 - a name
    API_TOKEN_REVOKED = "api_token_revoked"  # noqa: S105 - a name
    INVITE_CREATED = "invite_created"
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a name
    USER_REVOKED = "user_revoked"
    USER_BLOCKED = "user_blocked"
    USER_UNBLOCKED = "user_unblocked"
    ACCOUNT_DELETED = "account_deleted"
    ACCOUNT_ERASED = "account_erased"
    ACCOUNT_EXPORTED = "account_exported"
    ACCOUNT_IMPORTED = "account_imported"
    ACTION_ENDED = "action_ended"
    ACTION_ANSWERED = "action_answered"
    KEY_CREATED = "key_created"
    KEY_RETIRED = "key_retired"
    BACKUP_CREATED = "backup_created"
    BACKUP_RESTORED = "backup_restored"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One event. `account` and `subject` are ids (a sign-in, a device, a token, a key) or empty.

    The subject of an action is its name, its agent and how it ended, or what the person said to it: never content.
    """

    event: Event
    at_us: int
    account: str = ""
    subject: str = ""
    network: str = ""


def append(entry: Entry) -> Unit[None]:
    """Part of a unit, its last step: write an entry behind all others, in the same commit as what it tells."""
    rows = yield Statement(
        "UPDATE audit_head SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence, hash"
    )
    sequence, previous = rows[0]["sequence"], rows[0]["hash"]
    hash = _chained(
        sequence, entry.at_us, entry.event.value, entry.account, entry.subject, entry.network, previous
    )
    yield Statement(
        "INSERT INTO audit (sequence, create_us, event, account_id, subject, network, previous, hash)"
        " VALUES (:sequence, :at_us, :event, :account, :subject, :network, :previous, :hash)",
        {
            "sequence": sequence,
            "at_us": entry.at_us,
            "event": entry.event.value,
            "account": entry.account,
            "subject": entry.subject,
            "network": entry.network,
            "previous": previous,
            "hash": hash,
        },
    )
    yield Statement("UPDATE audit_head SET hash = :hash WHERE id = 1", {"hash": hash})


def first_broken() -> Unit[int | None]:
    """The sequence of the first entry that is missing or was changed; None for a whole log."""
    sequence, previous = 0, ""
    while rows := (yield _after(sequence)):
        for row in rows:
            if row["sequence"] != sequence + 1 or row["previous"] != previous or row["hash"] != _hash_of(row):
                return sequence + 1
            sequence, previous = row["sequence"], row["hash"]
    head = yield Statement("SELECT sequence, hash FROM audit_head WHERE id = 1")
    whole = (head[0]["sequence"], head[0]["hash"]) == (sequence, previous)
    return None if whole else sequence + 1


def _after(sequence: int) -> Statement:
    return Statement(
        "SELECT * FROM audit WHERE sequence > :sequence ORDER BY sequence LIMIT :page",
        {"sequence": sequence, "page": _PAGE},
    )


def _hash_of(row: Row) -> str:
    return _chained(
        row["sequence"],
        row["create_us"],
        row["event"],
        row["account_id"],
        row["subject"],
        row["network"],
        row["previous"],
    )


def _chained(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
