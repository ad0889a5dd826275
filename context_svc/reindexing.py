"""Indexing again: after a restore, and for messages older than the index, each message is indexed in the background.

The index is no part of a backup: it is made from the messages. A mark in `meta` says how far it has come.
"""

from __future__ import annotations

import json

from chassis.database import Database, Statement, Unit
from context_svc.search import Indexing

MARK = "search.indexed_through"
BEGINNING = '["",""]'
_PAGE = 200


class Reindexing:
    """Puts what is stored into the index, a page at a time, as long as the mark is there."""

    def __init__(self, database: Database, indexing: Indexing) -> None:
        self._database = database
        self._indexing = indexing

    async def run(self) -> None:
        """Index what is behind the mark; at once over when there is none. Raises StoreUnavailable."""
        while await self._database.write("search index", self._page):
            pass

    def _page(self) -> Unit[bool]:
        """The next page; whether there may be more."""
        rows = yield Statement("SELECT value FROM meta WHERE key = :mark", {"mark": MARK})
        if not rows:
            return False
        session, message = json.loads(rows[0]["value"])
        found = yield Statement(
            "SELECT session_id, id, data FROM message WHERE (session_id, id) > (:session, :message)"
            " ORDER BY session_id, id LIMIT :limit",
            {"session": session, "message": message, "limit": _PAGE},
        )
        for row in found:
            yield from self._indexing.store(row["session_id"], row["id"], bytes(row["data"]))
        if not found:
            yield Statement("DELETE FROM meta WHERE key = :mark", {"mark": MARK})
            return False
        reached = json.dumps([found[-1]["session_id"], found[-1]["id"]])
        yield from index_from(reached)
        return True


def index_from(mark: str = BEGINNING) -> Unit[None]:
    """Part of a unit: let everything behind the mark be indexed at the next start."""
    yield Statement(
        "INSERT INTO meta (key, value) VALUES (:mark, :value) ON CONFLICT (key) DO UPDATE SET value = :value",
        {"mark": MARK, "value": mark},
    )
