"""knowledge_retrieval over the offline reference."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from orchestrator_svc.conversation import Source
from orchestrator_svc.tools.inquiry import absent
from orchestrator_svc.tools.reference.encyclopedia import Article, Encyclopedia, Passage
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool

OFF = "The offline reference is not here: `mesh reference` gets it, or ORCHESTRATOR_REFERENCE_DIR names its folder."
_ARTICLES = {"basic": 1, "intermediate": 2, "advanced": 3}
_PASSAGES = 6  # main ones, of an article that has many
_LONGEST = 24_000

Depth = Literal["basic", "intermediate", "advanced"]


class KnowledgeWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What to look up."""

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="A person, place or thing")]
    depth: Annotated[
        Depth, msgspec.Meta(description="basic: a summary; intermediate: main passages; advanced: all")
    ] = "basic"


class Lookup:
    """Performs the action."""

    def __init__(self, encyclopedia: Encyclopedia) -> None:
        self._encyclopedia = encyclopedia

    async def find(self, wanted: KnowledgeWanted, setting: Setting) -> Output:
        """What the reference says, with its sources; that it says nothing is an answer too."""
        articles = await asyncio.to_thread(
            self._encyclopedia.about,
            wanted.topic,
            language=setting.manner.language,
            most=_ARTICLES[wanted.depth],
        )
        if not articles:
            return Output(content=f"The offline reference has nothing about {wanted.topic!r}.")
        told = "\n\n".join(_told(article, wanted.depth) for article in articles)
        return Output(content=told[:_LONGEST], sources=_sources(articles))


def knowledge_tool(encyclopedia: Encyclopedia | None) -> Tool[KnowledgeWanted]:
    """The action; without `encyclopedia` it says how to get one."""
    return Tool(
        name="knowledge_retrieval",
        description="Looks up a person, place, country or thing in an offline encyclopedia.",
        arguments=KnowledgeWanted,
        perform=Lookup(encyclopedia).find if encyclopedia else absent(OFF),
        agent="reference",
        effect=Effect.NONE,
        foreign=True,
        timeout=10.0,
        examples=(Example(request="Look up photosynthesis", arguments={"topic": "Photosynthesis"}),),
        missing="" if encyclopedia else OFF,
    )


def _told(article: Article, depth: Depth) -> str:
    lines = [article.title]
    match depth:
        case "basic":
            lines += [article.summary, *map(_passage, article.relevant[:1])]
        case "intermediate":
            lines.append(article.summary)
            lines += map(_passage, (article.relevant or article.passages)[:_PASSAGES])
        case "advanced":
            lines += [article.summary, *map(_passage, article.passages)]
    return "\n".join((*dict.fromkeys(lines), f"Source: {article.source}, {article.uri}"))


def _passage(passage: Passage) -> str:
    return f"{passage.heading}: {passage.body}" if passage.heading else passage.body


def _sources(articles: Sequence[Article]) -> tuple[Source, ...]:
    return tuple(
        Source(
            title=article.title,
            uri=article.uri,
            snippet=article.summary[:300],
            publisher=article.source,
        )
        for article in articles
    )
