"""Finding messages by their words, over all sessions of a person but sealed ones, best first.

Which messages are found is decided here, alike on every engine: every word must occur, what stands in quotes exactly
so. The engine's index decides the order, and holds digests of words under the account's own key, never text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis import ids
from chassis.database import Database, Statement, Unit
from chassis.errors import InvalidRequest, Violation
from context_svc.messages import require_session
from context_svc.paging import Key, PageTokens, Query, fitting, page_size
from context_svc.words import Passage, Wanted, digests, passage, stands, wanted, words

MOST_WORDS = 32
MOST_RANKED = (
    10_000  # findings that are put in order, the newest of all there are: a search takes bounded time
)
_LOOK_AT = 200  # candidates read at once when quotes leave some out


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where to look: one session, or with an empty id all of the account."""

    session_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a finding stands in the order of its engine."""

    score: str
    id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A stored message with all the words that were asked for."""

    position: Position
    message: bytes


class MessageIndex(Protocol):
    """An index of messages by digests of their words. A message leaves it with its row, in the same commit."""

    def add(self, session_id: str, message_id: str, words: Sequence[str]) -> Unit[None]:
        """Part of the unit that stores a message: let it be found. What is there already stays."""

    def find(
        self, account_id: str, words: Sequence[str], place: Place, after: Position | None, limit: int
    ) -> Unit[list[Found]]:
        """At most `limit` messages of the account with every one of these words, best first, behind `after`.

        The newest MOST_RANKED of them are put in order. Digests are the account's own: nobody else's match.
        """

    def clean(self) -> Unit[bool]:
        """Remove what is left of messages that are gone; whether there was any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A finding, with the passage around the words."""

    message: bytes
    passage: Passage


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchPage:
    """A page of findings, best first; `next_page_token` is empty at the end."""

    matches: tuple[Match, ...]
    next_page_token: str


class Indexing:
    """Puts messages into the index: part of the unit that stores them. `text_of` reads a stored message's text."""

    def __init__(self, index: MessageIndex, text_of: Callable[[bytes], str]) -> None:
        self._index = index
        self._text_of = text_of

    def store(self, session_id: str, message_id: str, data: bytes) -> Unit[None]:
        """Let a message that was just stored be found by its text, unless its session is sealed."""
        told = [each.text for each in words(self._text_of(data))]
        if not told:
            return
        rows = yield Statement(
            "SELECT s.account_id, s.sealed, k.key FROM session s"
            " LEFT JOIN search_key k ON k.account_id = s.account_id WHERE s.id = :session",
            {"session": session_id},
        )
        if not rows or rows[0]["sealed"]:
            return
        key = rows[0]["key"] or (yield from _new_key(rows[0]["account_id"]))
        yield from self._index.add(session_id, message_id, digests(told, bytes(key)))


class Search:
    """Finds messages. `text_of` reads the text of a stored message."""

    def __init__(
        self,
        database: Database,
        tokens: PageTokens,
        index: MessageIndex,
        text_of: Callable[[bytes], str],
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._index = index
        self._text_of = text_of

    async def page(self, account_id: str, query: str, *, session_id: str, size: int, token: str) -> MatchPage:
        """A page of findings. Raises InvalidRequest (no word, too many), SessionNotFound, PageTokenInvalid."""
        asked = _checked(wanted(query))
        about = Query(account=account_id, name="search", filters={"query": query, "session": session_id})
        key: Key | None = self._tokens.read(about, token, (str, int))
        after = Position(score=str(key[0]), id=int(key[1])) if key else None
        limit = page_size(size)
        found = await self._database.read(
            lambda: self._found(account_id, asked, Place(session_id=session_id), after, limit + 1)
        )
        shown = found[: fitting((len(each.message) for each in found), limit)]
        more = len(found) > len(shown)
        end = shown[-1].position if more else None
        return MatchPage(
            matches=tuple(
                Match(message=each.message, passage=passage(self._text_of(each.message), asked))
                for each in shown
            ),
            next_page_token=self._tokens.issue(about, (end.score, end.id)) if end else "",
        )

    def _found(
        self, account_id: str, asked: Wanted, place: Place, after: Position | None, limit: int
    ) -> Unit[list[Found]]:
        if place.session_id:
            yield from require_session(account_id, place.session_id)
        rows = yield Statement(
            "SELECT key FROM search_key WHERE account_id = :account", {"account": account_id}
        )
        if not rows:
            return []
        looked_for = digests(asked.words, bytes(rows[0]["key"]))
        if not asked.exactly:
            return (yield from self._index.find(account_id, looked_for, place, after, limit))
        kept: list[Found] = []
        while len(kept) < limit:
            some = yield from self._index.find(account_id, looked_for, place, after, _LOOK_AT)
            kept += [each for each in some if stands(self._text_of(each.message), asked)]
            if len(some) < _LOOK_AT:
                break
            after = some[-1].position
        return kept[:limit]


def _checked(asked: Wanted) -> Wanted:
    if 0 < len(asked.words) <= MOST_WORDS:
        return asked
    description = f"must contain between 1 and {MOST_WORDS} words"
    raise InvalidRequest(violations=[Violation(field="query", description=description, rule="query.words")])


def _new_key(account_id: str) -> Unit[bytes]:
    rows = yield Statement(
        "INSERT INTO search_key (account_id, key) VALUES (:account, :key)"
        " ON CONFLICT (account_id) DO UPDATE SET key = search_key.key RETURNING key",
        {"account": account_id, "key": ids.token().encode()},
    )
    key: bytes = rows[0]["key"]
    return key
