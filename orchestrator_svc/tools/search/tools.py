"""web_search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from orchestrator_svc.conversation import Source
from orchestrator_svc.tools.inquiry import absent
from orchestrator_svc.tools.search.hits import Hit, Search
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool

OFF = (
    "Web search is not turned on: set ORCHESTRATOR_SEARCH to searxng (with ORCHESTRATOR_SEARCH_URL), brave or "
    "tavily (with ORCHESTRATOR_SEARCH_KEY), or duckduckgo."
)


class SearchWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What to search for."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=400, description="Words to search for")]
    num_results: Annotated[int, msgspec.Meta(ge=1, le=20, description="How many results, 1 to 20")] = 5


class Searching:
    """Performs the action."""

    def __init__(self, search: Search) -> None:
        self._search = search

    async def find(self, wanted: SearchWanted, setting: Setting) -> Output:
        """The hits as a numbered list. Raises ToolFailure."""
        hits = await self._search.search(wanted.query, wanted.num_results)
        sources = tuple(
            Source(
                title=hit.title,
                uri=hit.url,
                snippet=hit.snippet,
                fetched_at_us=setting.now_us,
                publisher=self._search.name,
            )
            for hit in hits
        )
        return Output(content=_told(hits, self._search.name), sources=sources)


def search_tool(search: Search | None, *, missing: str = "") -> Tool[SearchWanted]:
    """The action; without `search` it says how to turn it on, or `missing`."""
    off = "" if search else missing or OFF
    return Tool(
        name="web_search",
        description="Searches the web for what is new or not known by heart: news, prices, people, facts.",
        arguments=SearchWanted,
        perform=Searching(search).find if search else absent(off),
        agent="web",
        effect=Effect.READS_OUT,
        timeout=20.0,
        examples=(
            Example(request="Who won the election in Norway?", arguments={"query": "Norway election result"}),
        ),
        missing=off,
    )


def _told(hits: Sequence[Hit], engine: str) -> str:
    if not hits:
        return f"{engine} found nothing."
    lines = [f"Found by {engine}:"]
    for number, hit in enumerate(hits, 1):
        dated = f" ({hit.published})" if hit.published else ""
        lines += [f"{number}. {hit.title}{dated}", f"   {hit.url}", f"   {hit.snippet}"]
    return "\n".join(lines)
