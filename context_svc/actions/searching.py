"""search_messages: what was said in the person's conversations, found by its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chassis.database import Database, Statement, Unit
from chassis.errors import InvalidRequest
from context_svc import moments
from context_svc.hosting import Act, Asked, Told, refused, text
from context_svc.memories import StaysHere
from context_svc.search import Match, Search

MOST = 20
_LOOK_AT = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A stored message: who said it, when (microseconds), and where."""

    session_id: str
    turn_id: str
    by_person: bool
    time_us: int


class SearchMessages:
    """Finds messages of all conversations, but not in what another one keeps on these machines.

    `said` reads a stored message. The turn's own message is no finding.
    """

    name = "search_messages"

    def __init__(
        self, database: Database, search: Search, said: Callable[[bytes], Utterance], stays_here: StaysHere
    ) -> None:
        self._database = database
        self._search = search
        self._said = said
        self._stays_here = stays_here

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`. Raises ArgumentsInvalid."""
        query = text(asked, "query")
        limit = asked.arguments.get("limit", 5)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
            raise refused("limit", f"must be a number from 1 to {MOST}")
        try:
            page = await self._search.page(
                asked.claim.account_id, query, session_id="", size=_LOOK_AT, token=""
            )
        except InvalidRequest as error:
            raise refused("query", error.violations[0].description) from error
        found = [(match, self._said(match.message)) for match in page.matches]
        sessions = {said.session_id for _, said in found}
        settings = await self._database.read(lambda: _settings(sorted(sessions)))
        shown = [each for each in found if self._may_show(each, asked, settings)][:limit]
        content = "\n".join(_line(match, said, asked.zone) for match, said in shown)

        def act(_now_us: int) -> Unit[Told]:
            yield from ()
            return Told(content=content or "Nothing like that was said.")

        return act

    def _may_show(self, found: tuple[Match, Utterance], asked: Asked, settings: Mapping[str, bytes]) -> bool:
        match, said = found
        if said.turn_id == asked.claim.turn_id:
            return False
        if said.session_id == asked.claim.session_id:
            return True
        return not self._stays_here(settings.get(said.session_id, b""), (match.message,))


def _settings(sessions: Sequence[str]) -> Unit[dict[str, bytes]]:
    found = {}
    for session in sessions:
        rows = yield Statement("SELECT settings FROM session WHERE id = :id", {"id": session})
        found[session] = bytes(rows[0]["settings"] or b"") if rows else b""
    return found


def _line(match: Match, said: Utterance, zone: str) -> str:
    when = datetime.fromtimestamp(said.time_us / 1e6, UTC).astimezone(moments.zone(zone))
    who = "you" if said.by_person else "assistant"
    return f"- {when:%Y-%m-%d %H:%M}, {who}: {match.passage.text}"
