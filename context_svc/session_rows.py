"""The session table: its rows as values, and the statements that read and change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from chassis.database import Row, Statement, Unit


class SessionState(IntEnum):
    """Whether a session takes messages; the numbers are the contract's."""

    OPEN = 1
    ENDED = 2


class TitleSource(IntEnum):
    """Who set a title; the numbers are the contract's."""

    UNSPECIFIED = 0
    USER = 1
    MODEL = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A row. `settings` is a serialised SessionSettings or empty; times are microseconds since 1970."""

    id: str
    account_id: str
    title: str
    title_source: TitleSource
    state: SessionState
    settings: bytes
    version: int
    last_sequence: int
    head_message_id: str | None
    preview: str
    create_us: int
    update_us: int
    end_us: int | None
    device_id: str
    sealed: bool
    private: bool


def insert(
    session_id: str,
    *,
    account: str,
    sign_in: str,
    title: str,
    settings: bytes,
    private: bool,
    shape: str,
    now_us: int,
) -> Unit[Session]:
    """Add an open session, made by the device of the sign-in."""
    stored = yield Statement(
        "INSERT INTO session (id, account_id, title, title_source, state, settings, private, version, create_us,"
        " update_us, device_id, shape) SELECT :id, :account, :title, :title_source, :state, :settings, :private, 1,"
        " :now_us, :now_us, COALESCE((SELECT s.device_id FROM sign_in s WHERE s.id = :sign_in), :sign_in),"
        " :shape RETURNING *",
        {
            "id": session_id,
            "account": account,
            "title": title,
            "title_source": int(TitleSource.USER if title else TitleSource.UNSPECIFIED),
            "state": int(SessionState.OPEN),
            "settings": settings,
            "private": int(private),
            "now_us": now_us,
            "shape": shape,
            "sign_in": sign_in,
        },
    )
    return from_row(stored[0])


def find(session_id: str, account: str) -> Unit[Session | None]:
    """The session if it is this person's."""
    found = yield Statement(
        "SELECT * FROM session WHERE id = :id AND account_id = :account",
        {"id": session_id, "account": account},
    )
    return from_row(found[0]) if found else None


def lock(session_id: str, account: str) -> Unit[Session | None]:
    """The session if it is this person's, held until the commit."""
    found = yield Statement(
        "UPDATE session SET version = version WHERE id = :id AND account_id = :account RETURNING *",
        {"id": session_id, "account": account},
    )
    return from_row(found[0]) if found else None


def find_shape(session_id: str) -> Unit[tuple[str, str] | None]:
    """Whose session it is and the digest of the request that made it."""
    found = yield Statement("SELECT account_id, shape FROM session WHERE id = :id", {"id": session_id})
    return (found[0]["account_id"], found[0]["shape"]) if found else None


def count_one_more(account: str, quota: int) -> Unit[bool]:
    """Count a new session of the account; False when it has as many as it may."""
    counted = yield Statement(
        "UPDATE account SET session_count = session_count + 1"
        " WHERE id = :account AND session_count < :quota RETURNING id",
        {"account": account, "quota": quota},
    )
    return bool(counted)


def count_again() -> Unit[None]:
    """Count anew how many sessions each account has: some did not come along with it."""
    yield Statement(
        "UPDATE account SET session_count ="
        " (SELECT COUNT(*) FROM session WHERE session.account_id = account.id)"
    )


def page(account: str, after: Sequence[str | int] | None, limit: int, open_only: bool) -> Unit[list[Session]]:
    """Newest activity first, from behind `after` = (update_us, id)."""
    open_rows = " AND end_us IS NULL" if open_only else ""
    behind = " AND (update_us, id) < (:after_us, :after_id)" if after else ""
    bounds = {"after_us": after[0], "after_id": after[1]} if after else {}
    found = yield Statement(
        f"SELECT * FROM session WHERE account_id = :account{open_rows}{behind}"  # noqa: S608 - constant pieces
        " ORDER BY update_us DESC, id DESC LIMIT :limit",
        {"account": account, "limit": limit, **bounds},
    )
    return [from_row(row) for row in found]


def update(
    session_id: str,
    *,
    title: str,
    title_source: TitleSource,
    settings: bytes,
    now_us: int,
    private: bool | None = None,
) -> Unit[Session]:
    """Store new values under the next version; `private` None leaves that mark as it is."""
    stored = yield Statement(
        "UPDATE session SET title = :title, title_source = :title_source, settings = :settings,"
        " private = COALESCE(CAST(:private AS INTEGER), private),"
        " version = version + 1, update_us = :now_us WHERE id = :id RETURNING *",
        {
            "id": session_id,
            "title": title,
            "title_source": int(title_source),
            "settings": settings,
            "private": None if private is None else int(private),
            "now_us": now_us,
        },
    )
    return from_row(stored[0])


def end(session_id: str, now_us: int) -> Unit[Session]:
    """Store that it has ended, under the next version."""
    stored = yield Statement(
        "UPDATE session SET state = :ended, end_us = :now_us, version = version + 1, update_us = :now_us"
        " WHERE id = :id RETURNING *",
        {"id": session_id, "ended": int(SessionState.ENDED), "now_us": now_us},
    )
    return from_row(stored[0])


def delete(session: Session) -> Unit[None]:
    """Remove a session whose row the unit has locked, with everything that hangs on it."""
    yield Statement("DELETE FROM session WHERE id = :id", {"id": session.id})
    yield Statement(
        "UPDATE account SET session_count = session_count - 1 WHERE id = :account",
        {"account": session.account_id},
    )


def acknowledged(session_id: str, sign_in: str) -> Unit[int]:
    """The last sequence that the device of the sign-in acknowledged; 0 when it never did."""
    found = yield Statement(
        "SELECT sequence FROM acknowledgement WHERE session_id = :session AND device_id ="
        " COALESCE((SELECT s.device_id FROM sign_in s WHERE s.id = :sign_in), :sign_in)",
        {"session": session_id, "sign_in": sign_in},
    )
    return int(found[0]["sequence"]) if found else 0


def from_row(row: Row) -> Session:
    """A row of ``SELECT *`` or ``RETURNING *``."""
    return Session(
        id=row["id"],
        account_id=row["account_id"],
        title=row["title"],
        title_source=TitleSource(row["title_source"]),
        state=SessionState(row["state"]),
        settings=bytes(row["settings"]),
        version=row["version"],
        last_sequence=row["last_sequence"],
        head_message_id=row["head_message_id"],
        preview=row["preview"],
        create_us=row["create_us"],
        update_us=row["update_us"],
        end_us=row["end_us"],
        device_id=row["device_id"],
        sealed=bool(row["sealed"]),
        private=bool(row["private"]),
    )
