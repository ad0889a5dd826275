"""Private sessions: a day after the last word, or once the person ended them, nothing of them is left.

What they cost stays in the ledger. Their mark (`session.private`) also keeps them out of titles and summaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chassis.database import Database, Row, Statement, Unit
from context_svc import session_rows as rows
from context_svc.jobs import Then

IDLE_US = 86_400_000_000
_PAGE = 200


class Turns(Protocol):
    """What becomes of a session's turns and readers."""

    def forget(self, session: str) -> Unit[Then]:
        """Part of a unit that deletes the session: its running turns and its readers end after it."""


class PrivateSessions:
    """Deletes private sessions whose time has come."""

    def __init__(self, database: Database, turns: Turns) -> None:
        self._database = database
        self._turns = turns

    async def run(self, now_us: int) -> bool:
        """Delete them; whether there were any."""
        before_us, removed = now_us - IDLE_US, False
        while page := await self._database.read(lambda: _over(before_us)):
            for row in page:
                await self._database.write(
                    row["id"],
                    lambda row=row: self._delete(row, before_us),  # type: ignore[misc]
                    committed=_perform,
                )
            removed = True
        return removed

    def _delete(self, row: Row, before_us: int) -> Unit[Then | None]:
        session = yield from rows.lock(row["id"], row["account_id"])
        still = yield from _over(before_us)  # somebody may have spoken meanwhile
        if session is None or session.id not in {each["id"] for each in still}:
            return None
        then = yield from self._turns.forget(session.id)
        yield from rows.delete(session)
        return then


def _over(before_us: int) -> Unit[Sequence[Row]]:
    return (
        yield Statement(
            "SELECT id, account_id FROM session WHERE private = 1 AND (update_us <= :before OR state = 2)"
            " ORDER BY update_us LIMIT :limit",
            {"before": before_us, "limit": _PAGE},
        )
    )


def _perform(then: Then | None) -> None:
    if then is not None:
        then()
