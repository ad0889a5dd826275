"""Compaction: a day after its turn ended, the pieces of an answer go; the whole answer stays.

The log can be read on only behind them: a reader whose cursor lies before gets one Snapshot, then what follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from chassis.database import Database, Row, Statement, Unit

AGE_US = 86_400_000_000
_PAGE = 200
_PIECES = "(12, 13, 15)"  # TextDelta, ReasoningDelta, ToolProgress


class Compaction:
    """Removes the pieces of turns that ended a day ago or earlier."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, now_us: int) -> bool:
        """Compact every session's log; whether anything was removed."""
        before_us, after, removed = now_us - AGE_US, "", False
        while page := await self._database.read(lambda after=after: _some(after)):  # type: ignore[misc]
            for row in page:
                session = row["id"]
                if await self._database.read(lambda session=session: _reach(session, before_us)):  # type: ignore[misc]
                    await self._database.write(session, lambda session=session: _compact(session, before_us))  # type: ignore[misc]
                    removed = True
            after = page[-1]["id"]
        return removed


def _some(after: str) -> Unit[Sequence[Row]]:
    return (
        yield Statement(
            "SELECT id FROM session WHERE id > :after AND last_sequence >= first_sequence ORDER BY id LIMIT :limit",
            {"after": after, "limit": _PAGE},
        )
    )


def _reach(session_id: str, before_us: int) -> Unit[int | None]:
    """The last piece that goes: no turn that is open, or ended later, was accepted before it."""
    rows = yield Statement(
        "SELECT max(e.sequence) AS reach FROM event e JOIN session s ON s.id = e.session_id"  # noqa: S608 - constant
        " WHERE e.session_id = :session AND e.sequence >= s.first_sequence"
        f" AND e.kind IN {_PIECES} AND e.sequence < COALESCE((SELECT min(t.accepted_sequence) FROM turn t"
        " WHERE t.session_id = :session AND (t.end_us IS NULL OR t.end_us > :before)), s.last_sequence + 1)",
        {"session": session_id, "before": before_us},
    )
    reach: int | None = rows[0]["reach"]
    return reach


def _compact(session_id: str, before_us: int) -> Unit[None]:
    yield Statement("UPDATE session SET state = state WHERE id = :session", {"session": session_id})
    reach = yield from _reach(session_id, before_us)
    if reach is None:
        return
    yield Statement(
        f"DELETE FROM event WHERE session_id = :session AND sequence <= :reach AND kind IN {_PIECES}",  # noqa: S608 - constant
        {"session": session_id, "reach": reach},
    )
    yield Statement(
        "UPDATE session SET first_sequence = :first WHERE id = :session",
        {"session": session_id, "first": reach + 1},
    )
