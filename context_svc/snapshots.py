"""What a reader gets in place of a part of the log that is gone, or that belongs to another epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from chassis.database import Statement, Unit
from context_svc import session_rows as rows
from context_svc.journal import Entry, entries_after
from context_svc.paging import fitting
from context_svc.session_rows import Session
from context_svc.turn_rows import OpenTurn, open_turns

MOST_MESSAGES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """A position in one session's log."""

    session_id: str
    log_epoch: str = ""
    sequence: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The end of a session as it is at `through`: its newest messages, oldest first, and its open turns."""

    asked: Cursor
    through: Cursor
    messages: tuple[bytes, ...]
    has_older: bool
    session: Session
    open_turns: Sequence[OpenTurn]


Passage: TypeAlias = Snapshot | tuple[Entry, ...]


def read_on(
    account: str, asked: Cursor, log_epoch: str, limit: int, most_bytes: int | None = None
) -> Unit[Passage]:
    """What follows a position: at most `limit` entries, and `most_bytes` but for the first, or a Snapshot when they
    cannot be read.

    A session that is gone has no entries.
    """
    kept = yield Statement(
        "SELECT first_sequence FROM session WHERE id = :session AND account_id = :account",
        {"session": asked.session_id, "account": account},
    )
    readable = (
        asked.log_epoch in ("", log_epoch) and bool(kept) and asked.sequence + 1 >= kept[0]["first_sequence"]
    )
    if readable or not kept:
        return (yield from entries_after(asked.session_id, account, asked.sequence, limit, most_bytes))
    return (yield from _snapshot(account, asked, log_epoch))


def _snapshot(account: str, asked: Cursor, log_epoch: str) -> Unit[Snapshot]:
    session = yield from rows.find(asked.session_id, account)
    assert session is not None
    newest = yield Statement(
        "SELECT data FROM message WHERE session_id = :session ORDER BY sequence DESC, role DESC LIMIT :limit",
        {"session": session.id, "limit": MOST_MESSAGES + 1},
    )
    shown = newest[: fitting((len(row["data"]) for row in newest), MOST_MESSAGES)]
    return Snapshot(
        asked=asked,
        through=Cursor(session_id=session.id, log_epoch=log_epoch, sequence=session.last_sequence),
        messages=tuple(bytes(row["data"]) for row in reversed(shown)),
        has_older=len(newest) > len(shown),
        session=session,
        open_turns=(yield from open_turns(session.id)),
    )
