"""What a search of the web finds, whoever searches."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

_TAG = re.compile(r"<[^>]{1,200}>")
_SPACE = re.compile(r"\s+")
_TITLE, _SNIPPET, _URL = 200, 500, 2_048


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One page that was found. `published` is a date as the engine gives it, or empty."""

    title: str
    url: str
    snippet: str
    published: str = ""


class Search(Protocol):
    """Searches the web. Invents nothing: no hits is an answer, anything unreadable is a failure."""

    @property
    def name(self) -> str:
        """What a person calls the engine."""

    async def search(self, query: str, count: int) -> Sequence[Hit]:
        """At most `count` pages, the best first. Raises ToolFailure."""


def hit(*, title: str, url: str, snippet: str, published: str = "") -> Hit:
    """A hit in plain words: no markup, bounded."""
    return Hit(
        title=plain(title)[:_TITLE] or url[:_TITLE],
        url=url,
        snippet=plain(snippet)[:_SNIPPET],
        published=plain(published)[:40],
    )


def first(hits: Iterable[Hit], count: int) -> list[Hit]:
    """The first `count` hits that are pages of the web, each page once."""
    pages: dict[str, Hit] = {}
    for each in hits:
        if _is_page(each.url):
            pages.setdefault(each.url, each)
    return list(pages.values())[:count]


def plain(text: str) -> str:
    """Text without tags, entities and lines."""
    return _SPACE.sub(" ", html.unescape(_TAG.sub("", text))).strip()


def _is_page(url: str) -> bool:
    return url.startswith(("https://", "http://")) and len(url) <= _URL and not _SPACE.search(url)
