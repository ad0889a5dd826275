"""Messages: pages of a session's history, and the branch that a turn answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from chassis.database import Database, Row, Statement, Unit, Value
from context_svc.errors import MessageNotFound, SessionNotFound
from context_svc.paging import Key, PageTokens, Query, fitting, page_size
from context_svc.turn_rows import base_of

MOST_MATERIAL = 256  # messages of a branch that a turn is given
MOST_MATERIAL_BYTES = 2 * 1024 * 1024  # about half a million tokens
_WHOLE_BRANCH = 1_000_000  # messages
STEP = 64  # messages: the beginning of the material moves by so many at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Stored messages in order, and the token of the next page; empty at the end."""

    messages: tuple[bytes, ...]
    next_page_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """The end of a branch, oldest first, and how many messages lie before it.

    `ids` name its messages; `all_ids` also those right before them that were read and left out.
    """

    messages: tuple[bytes, ...]
    earlier: int
    ids: tuple[str, ...] = ()
    all_ids: tuple[str, ...] = ()


NOTHING = Branch(messages=(), earlier=0)
"""What a turn that answers no message is given."""


class History:
    """Reads what was said in a session, and keeps the person's verdicts on it."""

    def __init__(self, database: Database, tokens: PageTokens) -> None:
        self._database = database
        self._tokens = tokens

    async def page(
        self,
        account_id: str,
        session_id: str,
        *,
        size: int,
        token: str,
        newest_first: bool,
        leaf_id: str = "",
    ) -> Page:
        """A page over every branch, or over the one that ends with `leaf_id`.

        Raises SessionNotFound, MessageNotFound (the leaf) and PageTokenInvalid.
        """
        filters: dict[str, str | int | bool] = {
            "session": session_id,
            "newest_first": newest_first,
            "leaf": leaf_id,
        }
        query = Query(account=account_id, name="messages", filters=filters)
        after = self._tokens.read(query, token, (int, int))
        limit = page_size(size)
        asked = _Asked(account_id=account_id, session_id=session_id, after=after, newest_first=newest_first)
        if leaf_id:
            rows = await self._database.read(lambda: _branch_page(asked, leaf_id, limit + 1))
        else:
            rows = await self._database.read(lambda: _page(asked, limit + 1))
        shown = rows[: fitting((len(row["data"]) for row in rows), limit)]
        more = len(rows) > len(shown)
        return Page(
            messages=tuple(row["data"] for row in shown),
            next_page_token=self._tokens.issue(query, [shown[-1]["sequence"], shown[-1]["role"]])
            if more
            else "",
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """Whose page of which session, from behind `after` = (sequence, role)."""

    account_id: str
    session_id: str
    after: Key | None
    newest_first: bool


def _page(asked: _Asked, limit: int) -> Unit[Sequence[Row]]:
    yield from require_session(asked.account_id, asked.session_id)
    arguments: dict[str, Value] = {"session": asked.session_id, "limit": limit}
    if asked.after is not None:
        arguments |= {"sequence": asked.after[0], "role": asked.after[1]}
    comparison, order = ("<", "DESC") if asked.newest_first else (">", "ASC")
    rows = yield Statement(
        "SELECT sequence, role, data FROM message WHERE session_id = :session"  # noqa: S608 - two fixed words
        + (f" AND (sequence, role) {comparison} (:sequence, :role)" if asked.after is not None else "")
        + f" ORDER BY sequence {order}, role {order} LIMIT :limit",
        arguments,
    )
    return rows


def _branch_page(asked: _Asked, leaf_id: str, limit: int) -> Unit[Sequence[Row]]:
    """A page of one branch. Newest first it costs what it shows; the other way round it reads the whole branch."""
    yield from require_session(asked.account_id, asked.session_id)
    yield from _message(asked.account_id, asked.session_id, leaf_id)
    start, most = leaf_id, _WHOLE_BRANCH
    if asked.newest_first:
        most = limit
        if asked.after is not None:
            start, most = (yield from _at(asked)), limit + 1
    rows = yield from _upwards(asked.session_id, start, most)
    if not asked.newest_first:
        rows.reverse()
    behind = [row for row in rows if asked.after is None or _is_behind(row, asked)]
    return behind[:limit]


def _at(asked: _Asked) -> Unit[str]:
    """The message that the page before ended with. Raises MessageNotFound when it was removed meanwhile."""
    assert asked.after is not None
    rows = yield Statement(
        "SELECT id FROM message WHERE session_id = :session AND sequence = :sequence AND role = :role",
        {"session": asked.session_id, "sequence": asked.after[0], "role": asked.after[1]},
    )
    if not rows:
        raise MessageNotFound
    return str(rows[0]["id"])


def _is_behind(row: Row, asked: _Asked) -> bool:
    assert asked.after is not None
    here, there = (row["sequence"], row["role"]), tuple(asked.after)
    return here < there if asked.newest_first else here > there


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


def branch(session_id: str, leaf_id: str, *, whole: bool = False) -> Unit[Branch]:
    """The end of the branch that ends with `leaf_id`: the same cost however long the branch is.

    With `whole` nothing that was read is left out to let its beginning move in steps.

    Where it begins moves in steps: between two steps a window begins as the one before it did, and an engine need
    not read it again. Raises MessageNotFound.
    """
    rows = yield from _upwards(session_id, leaf_id, MOST_MATERIAL)
    if not rows:
        raise MessageNotFound
    rows.reverse()
    kept = rows if whole else rows[left_out([(row["depth"], len(row["data"])) for row in rows]) :]
    return Branch(
        messages=tuple(row["data"] for row in kept),
        earlier=kept[0]["depth"],
        ids=tuple(row["id"] for row in kept),
        all_ids=tuple(row["id"] for row in rows),
    )


def _upwards(session_id: str, leaf_id: str, most: int) -> Unit[list[Row]]:
    """A message and those before it on its branch, newest first.

    A message may have been queued behind a turn that then ended without an answer: what came before it is what that
    turn hangs below.
    """
    rows: list[Row] = []
    parent: str | None = leaf_id
    while parent and len(rows) < most:
        found = yield Statement(
            "WITH RECURSIVE branch (id, parent_id, depth, sequence, role, data, height) AS ("
            " SELECT id, parent_id, depth, sequence, role, data, 1 FROM message"
            " WHERE session_id = :session AND id = :leaf"
            " UNION ALL SELECT m.id, m.parent_id, m.depth, m.sequence, m.role, m.data, b.height + 1 FROM branch b"
            " JOIN message m ON m.session_id = :session AND m.id = b.parent_id WHERE b.height < :most)"
            " SELECT id, parent_id, depth, sequence, role, data FROM branch ORDER BY height",
            {"session": session_id, "leaf": parent, "most": most - len(rows)},
        )
        rows.extend(found)
        missing = found[-1]["parent_id"] if found else parent
        parent = (yield from base_of(session_id, missing)) if missing else None
    return rows


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
