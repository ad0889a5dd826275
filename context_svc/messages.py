"""Messages: pages of a session's history, and the branch that a turn answers."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.database import Statement, Unit
from context_svc.errors import MessageNotFound, SessionNotFound

MOST_MATERIAL = 400  # messages of a branch that a turn is given


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Stored messages in order, and the sequence to go on from; None at the end."""

    messages: tuple[bytes, ...]
    next_sequence: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """The end of a branch, oldest first, and how many messages lie before it."""

    messages: tuple[bytes, ...]
    earlier: int


def page(
    account_id: str, session_id: str, *, after: int | None, limit: int, newest_first: bool
) -> Unit[Page]:
    """A page of every branch, by sequence; `after` is the last sequence of the page before.

    Raises SessionNotFound.
    """
    yield from require_session(account_id, session_id)
    comparison, order = ("<", "DESC") if newest_first else (">", "ASC")
    rows = yield Statement(
        "SELECT sequence, data FROM message WHERE session_id = :session"  # noqa: S608 - two fixed words
        + (f" AND sequence {comparison} :after" if after is not None else "")
        + f" ORDER BY sequence {order} LIMIT :limit",
        {"session": session_id, "limit": limit + 1} | ({} if after is None else {"after": after}),
    )
    shown = rows[:limit]
    return Page(
        messages=tuple(row["data"] for row in shown),
        next_sequence=shown[-1]["sequence"] if len(rows) > limit else None,
    )


def message(account_id: str, session_id: str, message_id: str) -> Unit[bytes]:
    """One stored message. Raises MessageNotFound, also for a session of somebody else."""
    rows = yield Statement(
        "SELECT m.data FROM message m JOIN session s ON s.id = m.session_id"
        " WHERE m.session_id = :session AND m.id = :id AND s.account_id = :account",
        {"session": session_id, "id": message_id, "account": account_id},
    )
    if not rows:
        raise MessageNotFound
    data: bytes = rows[0]["data"]
    return data


def branch(session_id: str, leaf_id: str) -> Unit[Branch]:
    """The branch that ends with `leaf_id`, its last 400 messages: the same cost however long it is."""
    rows = yield Statement(
        "WITH RECURSIVE branch (id, parent_id, depth, data, height) AS ("
        " SELECT id, parent_id, depth, data, 1 FROM message WHERE session_id = :session AND id = :leaf"
        " UNION ALL SELECT m.id, m.parent_id, m.depth, m.data, b.height + 1 FROM branch b"
        " JOIN message m ON m.session_id = :session AND m.id = b.parent_id WHERE b.height < :most)"
        " SELECT depth, data FROM branch ORDER BY depth",
        {"session": session_id, "leaf": leaf_id, "most": MOST_MATERIAL},
    )
    if not rows:
        raise MessageNotFound
    return Branch(messages=tuple(row["data"] for row in rows), earlier=rows[0]["depth"])


def require_session(account_id: str, session_id: str) -> Unit[int]:
    """The end of the session's log. Raises SessionNotFound."""
    rows = yield Statement(
        "SELECT last_sequence FROM session WHERE id = :session AND account_id = :account",
        {"session": session_id, "account": account_id},
    )
    if not rows:
        raise SessionNotFound
    last: int = rows[0]["last_sequence"]
    return last
