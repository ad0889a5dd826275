"""SearXNG (docs.searxng.org): a metasearch engine that people run themselves. Its JSON format must be enabled."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchestrator_svc.egress.web import Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.search.hits import Hit, first, hit


class _Result(msgspec.Struct, rename={"published": "publishedDate"}):
    url: str
    title: str = ""
    content: str | None = ""
    published: str | None = ""


class _Reply(msgspec.Struct):
    results: list[_Result]


class Searxng:
    """The port `Search`."""

    name = "SearXNG"

    def __init__(self, site: Site) -> None:
        self._site = site

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """At most `count` pages. Raises ToolFailure."""
        asked: dict[str, str | int | float] = {"q": query, "format": "json", "safesearch": 1}
        reply = await inquiry.value(self._site.get("search", asked), _Reply, name=self.name)
        found = (
            hit(title=each.title, url=each.url, snippet=each.content or "", published=each.published or "")
            for each in reply.results
        )
        return first(found, count)
