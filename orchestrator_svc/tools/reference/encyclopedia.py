"""The offline reference: articles in one full-text index. Each names where it comes from and its licence."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BOOK = "reference.db"
_SCHEMA = (
    "CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT NOT NULL, language TEXT NOT NULL, uri TEXT NOT NULL, "
    "source TEXT NOT NULL, summary TEXT NOT NULL)",
    "CREATE INDEX article_title ON article (title COLLATE NOCASE)",
    "CREATE TABLE passage (id INTEGER PRIMARY KEY, article INTEGER NOT NULL, heading TEXT NOT NULL, "
    "body TEXT NOT NULL)",
    "CREATE INDEX passage_article ON passage (article)",
    "CREATE VIRTUAL TABLE words USING fts5 (title, body, content='', tokenize=\"unicode61 remove_diacritics 2\")",
)
_ARTICLES = "SELECT id, title, language, uri, source, summary FROM article WHERE "
_TITLED = "SELECT id FROM article WHERE title = ? COLLATE NOCASE ORDER BY id LIMIT 10"
_RANKED = (
    "SELECT passage.article FROM words JOIN passage ON passage.id = words.rowid "
    "WHERE words MATCH ? ORDER BY bm25(words, 8.0, 1.0) LIMIT 60"
)
_WORD = re.compile(r"\w+")
_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "in",
        "is",
        "it",
        "its",
        "me",
        "of",
        "on",
        "or",
        "tell",
        "that",
        "the",
        "their",
        "there",
        "this",
        "to",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "about",
        "explain",
        "describe",
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A piece of an article. `heading` is empty for an article of one piece."""

    heading: str
    body: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Article:
    """What the reference says about something."""

    title: str
    language: str
    uri: str
    source: str
    summary: str
    passages: tuple[Passage, ...] = ()
    relevant: tuple[Passage, ...] = ()  # those that the topic's other words point at, the best first


class Encyclopedia:
    """Articles, over the book that `write` makes. Thread-safe as far as SQLite is: it only reads."""

    def __init__(self, book: sqlite3.Connection) -> None:
        self._book = book

    def about(self, topic: str, *, language: str = "", most: int = 3) -> list[Article]:
        """The articles about `topic`: of that very title first, then those whose words fit best.

        Those in `language` (its first two letters) come before others of the same topic.
        """
        ids = list(dict.fromkeys((*self._titled(topic), *self._fitting(topic))))
        rows = [self._book.execute(_ARTICLES + "id = ?", (each,)).fetchone() for each in ids]
        known = {row[2] for row in rows}
        wanted = language[:2].lower() if language[:2].lower() in known else "en"
        rows = [row for row in rows if row[2] == wanted] or rows
        return [self._article(row, _words(topic)) for row in rows[:most]]

    def _titled(self, topic: str) -> list[int]:
        names = dict.fromkeys((topic.strip(), " ".join(_words(topic))))
        rows = (self._book.execute(_TITLED, (name,)).fetchall() for name in names)
        return [row[0] for found in rows for row in found]

    def _fitting(self, topic: str) -> list[int]:
        quoted = [f'"{word}"' for word in _words(topic)]
        if not quoted:
            return []
        for asked in (" AND ".join(quoted), " OR ".join(quoted)):
            found = [row[0] for row in self._book.execute(_RANKED, (asked,))]
            if found:
                return found
        return []

    def _article(self, row: Sequence[str], words: Sequence[str]) -> Article:
        found, title, language, uri, source, summary = row
        passages = self._book.execute(
            "SELECT heading, body FROM passage WHERE article = ? ORDER BY id", (found,)
        ).fetchall()
        return Article(
            title=title,
            language=language,
            uri=uri,
            source=source,
            summary=summary,
            passages=tuple(Passage(heading=heading, body=body) for heading, body in passages),
            relevant=_relevant(passages, [word for word in words if word not in title.casefold()]),
        )


def _words(topic: str) -> list[str]:
    return [word for word in _WORD.findall(topic.casefold()) if word not in _STOP][:12]


def _relevant(passages: Sequence[Sequence[str]], words: Sequence[str]) -> tuple[Passage, ...]:
    """The passages that hold the words, most of them in the heading first."""

    def weight(passage: Sequence[str]) -> tuple[int, int, int]:
        heading, body = passage[0].casefold(), passage[1].casefold()
        named = sum(word in heading for word in words)
        return named, -len(heading.rpartition(", ")[2]) if named else 0, sum(word in body for word in words)

    weighed = [(weight(each), each) for each in passages]
    fitting = [each for each in weighed if each[0][0] or each[0][2]]
    fitting.sort(key=lambda each: each[0], reverse=True)
    return tuple(Passage(heading=heading, body=body) for _, (heading, body) in fitting)


def write(book: sqlite3.Connection, articles: Iterable[Article]) -> None:
    """Write the book."""
    for statement in _SCHEMA:
        book.execute(statement)
    number = 0
    for at, article in enumerate(articles):
        book.execute(
            "INSERT INTO article VALUES (?, ?, ?, ?, ?, ?)",
            (at, article.title, article.language, article.uri, article.source, article.summary),
        )
        for passage in article.passages or (Passage(heading="", body=article.summary),):
            number += 1
            book.execute(
                "INSERT INTO passage VALUES (?, ?, ?, ?)", (number, at, passage.heading, passage.body)
            )
            words = (number, f"{article.title} {passage.heading}", passage.body)
            book.execute("INSERT INTO words (rowid, title, body) VALUES (?, ?, ?)", words)
