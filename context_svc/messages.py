"""Messages: pages of a session's history, and the branch that a turn answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from chassis.database import Database, Row, Statement, Unit, Value
from context_svc.errors import MessageNotFound, SessionNotFound
from context_svc.paging import Key, PageTokens, Query, page_size

MOST_MATERIAL = 256  # messages of a branch that a turn is given
MOST_MATERIAL_BYTES = 2 * 1024 * 1024  # about half a million tokens
STEP = 64  # messages: the beginning of the material moves by so many at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Stored messages in order, and the token of the next page; empty at the end."""

    messages: tuple[bytes, ...]
    next_page_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """The end of a branch, oldest first, and how many messages lie before it."""

    messages: tuple[bytes, ...]
    earlier: int


class History:
    """Reads what was said in a session, and keeps the person's verdicts on it."""

    def __init__(self, database: Database, tokens: PageTokens) -> None:
        self._database = database
        self._tokens = tokens

    async def page(
        self, account_id: str, session_id: str, *, size: int, token: str, newest_first: bool
    ) -> Page:
        """A page over every branch. Raises SessionNotFound and PageTokenInvalid."""
        query = Query(
            account=account_id, name="messages", filters={"session": session_id, "newest_first": newest_first}
        )
        after = self._tokens.read(query, token, (int,))
        limit = page_size(size)
        rows = await self._database.read(
            lambda: _page(account_id, session_id, after, limit + 1, newest_first)
        )
        shown = rows[:limit]
        more = len(rows) > limit
        return Page(
            messages=tuple(row["data"] for row in shown),
            next_page_token=self._tokens.issue(query, [shown[-1]["sequence"]]) if more else "",
        )

    async def message(self, account_id: str, session_id: str, message_id: str) -> bytes:
        """One stored message. Raises MessageNotFound, also for a session of somebody else."""
        return await self._database.read(lambda: _message(account_id, session_id, message_id))

    async def rate(
        self, account_id: str, session_id: str, message_id: str, rated: Callable[[bytes], bytes]
    ) -> bytes:
        """An answer with the verdict that `rated`, which is pure, puts into its stored form.

        Raises MessageNotFound, also for what the person said themselves.
        """
        return await self._database.write(
            session_id, lambda: _rate(account_id, session_id, message_id, rated)
        )


def _rate(account_id: str, session_id: str, message_id: str, rated: Callable[[bytes], bytes]) -> Unit[bytes]:
    arguments = {"session": session_id, "id": message_id, "account": account_id}
    yield Statement(
        "UPDATE session SET state = state WHERE id = :session AND account_id = :account",
        {"session": session_id, "account": account_id},
    )
    rows = yield Statement(
        "SELECT m.data FROM message m JOIN session s ON s.id = m.session_id"
        " WHERE m.session_id = :session AND m.id = :id AND m.role = 2 AND s.account_id = :account",
        arguments,
    )
    if not rows:
        raise MessageNotFound
    data = rated(bytes(rows[0]["data"]))
    yield Statement(
        "UPDATE message SET data = :data WHERE session_id = :session AND id = :id",
        {"data": data, "session": session_id, "id": message_id},
    )
    return data


def _page(
    account_id: str, session_id: str, after: Key | None, limit: int, newest_first: bool
) -> Unit[Sequence[Row]]:
    yield from require_session(account_id, session_id)
    arguments: dict[str, Value] = {"session": session_id, "limit": limit}
    if after is not None:
        arguments["after"] = after[0]
    comparison, order = ("<", "DESC") if newest_first else (">", "ASC")
    rows = yield Statement(
        "SELECT sequence, data FROM message WHERE session_id = :session"  # noqa: S608 - two fixed words
        + (f" AND sequence {comparison} :after" if after is not None else "")
        + f" ORDER BY sequence {order} LIMIT :limit",
        arguments,
    )
    return rows


def _message(account_id: str, session_id: str, message_id: str) -> Unit[bytes]:
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
    """The end of the branch that ends with `leaf_id`: the same cost however long the branch is.

    Where it begins moves in steps: between two steps a window begins as the one before it did, and an engine need
    not read it again.

    A message may have been queued behind a turn that then ended without an answer: what came before it is the
    message of that turn.
    """
    rows = yield Statement(
        "WITH RECURSIVE branch (id, parent_id, depth, data, height) AS ("
        " SELECT id, parent_id, depth, data, 1 FROM message WHERE session_id = :session AND id = :leaf"
        " UNION ALL SELECT m.id, m.parent_id, m.depth, m.data, b.height + 1 FROM branch b"
        " JOIN message m ON m.session_id = :session AND m.id = CASE WHEN EXISTS (SELECT 1 FROM message p"
        " WHERE p.session_id = :session AND p.id = b.parent_id) THEN b.parent_id ELSE (SELECT t.message_id"
        " FROM turn t WHERE t.session_id = :session AND t.answer_id = b.parent_id) END"
        " WHERE b.height < :most)"
        " SELECT depth, data FROM branch ORDER BY depth",
        {"session": session_id, "leaf": leaf_id, "most": MOST_MATERIAL},
    )
    if not rows:
        raise MessageNotFound
    kept = rows[left_out([(row["depth"], len(row["data"])) for row in rows]) :]
    return Branch(messages=tuple(row["data"] for row in kept), earlier=kept[0]["depth"])


def left_out(read: Sequence[tuple[int, int]]) -> int:
    """How many of these messages, each its depth and its bytes, stay out of the material, from the oldest on.

    It begins at the first message of a branch or at every 64th, unless no such beginning is near enough to the end
    for its bytes; the newest message is always in.
    """
    after = accumulate(size for _, size in reversed(read))
    fitting = [len(read) - count for count, total in enumerate(after, 1) if total <= MOST_MATERIAL_BYTES]
    steady = [place for place in fitting if read[place][0] % STEP == 0]
    return min(steady or fitting, default=len(read) - 1)


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
