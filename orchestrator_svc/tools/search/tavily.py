"""Tavily (docs.tavily.com): a search made for agents, with a key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchestrator_svc.egress.web import Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.search.hits import Hit, first, hit

HOME = "https://api.tavily.com"


class _Result(msgspec.Struct):
    title: str
    url: str
    content: str = ""
    published_date: str | None = ""


class _Reply(msgspec.Struct):
    results: list[_Result]


class Tavily:
    """The port `Search`."""

    name = "Tavily"

    def __init__(self, site: Site, *, key: str) -> None:
        self._site = site
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """At most `count` pages. Raises ToolFailure."""
        body = msgspec.json.encode({"query": query, "max_results": count, "search_depth": "basic"})
        asking = self._site.post("search", body, headers=self._headers)
        reply = await inquiry.value(asking, _Reply, name=self.name)
        found = (
            hit(title=each.title, url=each.url, snippet=each.content, published=each.published_date or "")
            for each in reply.results
        )
        return first(found, count)
