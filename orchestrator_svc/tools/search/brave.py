"""Brave Search (api-dashboard.search.brave.com): an index of its own, with a key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchestrator_svc.egress.web import Site
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.search.hits import Hit, first, hit

HOME = "https://api.search.brave.com"


class _Result(msgspec.Struct):
    title: str
    url: str
    description: str = ""
    page_age: str = ""


class _Web(msgspec.Struct):
    results: list[_Result]


class _Reply(msgspec.Struct):
    type: str  # "search": tells an answer from any other JSON
    web: _Web | None = None  # absent when nothing was found


class Brave:
    """The port `Search`."""

    name = "Brave Search"

    def __init__(self, site: Site, *, key: str) -> None:
        self._site = site
        self._headers = {"X-Subscription-Token": key, "Accept": "application/json"}

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """At most `count` pages. Raises ToolFailure."""
        asking = self._site.get("res/v1/web/search", {"q": query, "count": count}, headers=self._headers)
        reply = await inquiry.value(asking, _Reply, name=self.name)
        if reply.type != "search":
            raise inquiry.garbage(self.name)
        found = (
            hit(title=each.title, url=each.url, snippet=each.description, published=each.page_age)
            for each in (reply.web.results if reply.web else ())
        )
        return first(found, count)
