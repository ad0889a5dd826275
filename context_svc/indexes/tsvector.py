"""The index of messages in PostgreSQL: a tsvector of digests of words under GIN, ranked by ts_rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from chassis.database import Statement, Unit, Value
from context_svc.search import MOST_RANKED, Found, Place, Position

_MOST_POSITIONS = 255  # of one lexeme; the rank reads no more


class TsvectorIndex:
    """See `context_svc.search.MessageIndex`."""

    def add(self, session_id: str, message_id: str, words: Sequence[str]) -> Unit[None]:
        """See the port."""
        yield Statement(
            "INSERT INTO message_search (session_id, message_id, words)"
            " VALUES (:session, :message, CAST(CAST(:words AS TEXT) AS tsvector))"
            " ON CONFLICT (session_id, message_id) DO NOTHING",
            {"session": session_id, "message": message_id, "words": " ".join(_lexemes(words))},
        )

    def find(
        self, account_id: str, words: Sequence[str], place: Place, after: Position | None, limit: int
    ) -> Unit[list[Found]]:
        """See the port."""
        arguments: dict[str, Value] = {
            "words": " & ".join(words),
            "account": account_id,
            "most": MOST_RANKED,
            "limit": limit,
        }
        only = behind = ""
        if place.session_id:
            only = " AND f.session_id = :session"
            arguments["session"] = place.session_id
        if after is not None:
            behind = " WHERE (score, id) < (CAST(:score AS DOUBLE PRECISION), CAST(:id AS BIGINT))"
            arguments |= {"score": float(after.score), "id": after.id}
        rows = yield Statement(
            "SELECT best.score, best.id, m.data FROM (SELECT score, id, session_id, message_id FROM (SELECT"  # noqa: S608 - fixed pieces
            " CAST(ts_rank(f.words, q.query, 1) AS DOUBLE PRECISION) AS score, f.id, f.session_id, f.message_id"
            " FROM (SELECT CAST(CAST(:words AS TEXT) AS tsquery) AS query) q"
            f" JOIN message_search f ON f.words @@ q.query{only} ORDER BY f.id DESC LIMIT :most) newest{behind}"
            " ORDER BY score DESC, id DESC LIMIT :limit) best"
            " JOIN message m ON m.session_id = best.session_id AND m.id = best.message_id"
            " JOIN session s ON s.id = m.session_id AND s.account_id = :account"
            " ORDER BY best.score DESC, best.id DESC",
            arguments,
        )
        return [
            Found(position=Position(score=repr(row["score"]), id=row["id"]), message=bytes(row["data"]))
            for row in rows
        ]

    def clean(self) -> Unit[bool]:
        """See the port: rows are removed with their messages, the rest is PostgreSQL's vacuum."""
        yield from ()
        return False


def _lexemes(words: Sequence[str]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for position, word in enumerate(words, 1):
        seen[word] += 1
        if seen[word] <= _MOST_POSITIONS:
            yield f"{word}:{min(position, 16_383)}"
