"""DuckDuckGo's plain HTML page. The library `ddgs` knows what to send and how to read it; the way out is ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from orchestrator_svc.egress.web import Site
from orchestrator_svc.errors import Reason
from orchestrator_svc.tools import inquiry
from orchestrator_svc.tools.search.hits import Hit, first, hit
from orchestrator_svc.tools.tool import ToolFailure

if TYPE_CHECKING:
    from ddgs.engines.duckduckgo import Duckduckgo

HOME = "https://html.duckduckgo.com"
_NOTHING = "no-results"  # what the page calls its place for "No results."
_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}


class DuckDuckGo:
    """The port `Search`."""

    name = "DuckDuckGo"

    def __init__(self, site: Site) -> None:
        self._site = site

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """At most `count` pages. Raises ToolFailure."""
        form = self._engine.build_payload(query, "wt-wt", "moderate", None)
        asking = self._site.post("html/", urlencode(form).encode(), headers=_HEADERS)
        return first(self._read((await inquiry.reply(asking, name=self.name)).body), count)

    @cached_property
    def _engine(self) -> Duckduckgo:
        """The library's engine without its own HTTP client. Imported late: it takes 0.1 s."""
        from ddgs.engines.duckduckgo import Duckduckgo

        return Duckduckgo.__new__(Duckduckgo)

    def _read(self, body: bytes) -> list[Hit]:
        from lxml.etree import LxmlError

        page = body.decode("utf-8", "replace")
        if "anomaly-modal" in page:
            raise ToolFailure(
                f"{self.name} takes us for a robot; try later, or configure another search.",
                reason=Reason.PROVIDER_LIMITED,
                retryable=True,
            )
        try:
            results = self._engine.post_extract_results(self._engine.extract_results(page))
        except (LxmlError, ValueError) as error:
            raise inquiry.garbage(self.name) from error
        if not results and _NOTHING not in page:
            raise inquiry.garbage(self.name)
        return [hit(title=each.title, url=each.href, snippet=each.body) for each in results]
