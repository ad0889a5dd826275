"""The index of messages in SQLite: FTS5 over digests of words, ranked by bm25."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.database import Statement, Unit, Value
from context_svc.search import MOST_RANKED, Found, Place, Position

_AT_ONCE = 64  # gone messages that are taken out of the index with each new one


class Fts5Index:
    """See `context_svc.search.MessageIndex`."""

    def add(self, session_id: str, message_id: str, words: Sequence[str]) -> Unit[None]:
        """See the port."""
        rows = yield Statement(
            "INSERT INTO message_search (session_id, message_id) VALUES (:session, :message)"
            " ON CONFLICT (session_id, message_id) DO NOTHING RETURNING id",
            {"session": session_id, "message": message_id},
        )
        for row in rows:
            yield Statement(
                "INSERT INTO message_index (rowid, words) VALUES (:id, :words)",
                {"id": row["id"], "words": " ".join(words)},
            )
        yield from self._take_out(_AT_ONCE)

    def find(
        self, account_id: str, words: Sequence[str], place: Place, after: Position | None, limit: int
    ) -> Unit[list[Found]]:
        """See the port."""
        arguments: dict[str, Value] = {
            "words": " AND ".join(words),
            "account": account_id,
            "most": MOST_RANKED,
            "limit": limit,
        }
        only = behind = ""
        if place.session_id:
            only = " AND rowid IN (SELECT id FROM message_search WHERE session_id = :session)"
            arguments["session"] = place.session_id
        if after is not None:
            behind = " WHERE (score, id) > (:score, :id)"
            arguments |= {"score": float(after.score), "id": -after.id}
        rows = yield Statement(
            "SELECT best.score, best.id, m.data FROM (SELECT score, id FROM (SELECT rank AS score, -rowid AS id"  # noqa: S608 - fixed pieces
            f" FROM message_index WHERE words MATCH :words{only}"
            " AND rowid NOT IN (SELECT id FROM message_search_gone)"
            f" ORDER BY rowid DESC LIMIT :most) newest{behind} ORDER BY score, id LIMIT :limit) best"
            " JOIN message_search f ON f.id = -best.id"
            " JOIN message m ON m.session_id = f.session_id AND m.id = f.message_id"
            " JOIN session s ON s.id = m.session_id AND s.account_id = :account ORDER BY best.score, best.id",
            arguments,
        )
        return [
            Found(position=Position(score=repr(row["score"]), id=-row["id"]), message=bytes(row["data"]))
            for row in rows
        ]

    def clean(self) -> Unit[bool]:
        """See the port: what is left of gone messages in old segments goes with a merge of all of them."""
        if not (yield from self._take_out(1_000_000)):
            return False
        yield Statement("INSERT INTO message_index (message_index) VALUES ('optimize')")
        return True

    def _take_out(self, most: int) -> Unit[bool]:
        rows = yield Statement(
            "DELETE FROM message_search_gone WHERE id IN (SELECT id FROM message_search_gone LIMIT :most)"
            " RETURNING id",
            {"most": most},
        )
        for row in rows:
            yield Statement("DELETE FROM message_index WHERE rowid = :id", {"id": row["id"]})
        return bool(rows)
