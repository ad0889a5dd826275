"""Words: how text is cut into them for search, alike on every store, and where they stand in a passage. Pure.

A word is a run of letters, digits and marks, compared without regard to case, accents and width. Scripts written
without spaces have no words: there each pair of neighbouring characters is one, and each single character.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from base64 import b32encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

SNIPPET = 300  # characters
_LEAD = 60  # characters before the first word that was found
_DIGEST = 10  # bytes
_ASCII = re.compile("[0-9A-Za-z]+")
_RANGES = (  # scripts without spaces between words
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is compared, and where it stands in its text, in code points."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is looked for: words that must occur, and passages that must stand there exactly so."""

    words: tuple[str, ...]
    exactly: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """The text around what was found, and the stretches of it that were looked for."""

    text: str
    stretches: tuple[tuple[int, int], ...]


def words(text: str) -> Iterator[Word]:
    """The words of a text, in order."""
    for start, end in _runs(text):
        if _joined(text[start]):
            for index in range(start, end):
                yield Word(_folded(text[index]), index, index + 1)
                if index + 1 < end:
                    yield Word(_folded(text[index : index + 2]), index, index + 2)
        else:
            yield Word(_folded(text[start:end]), start, end)


def wanted(query: str) -> Wanted:
    """What a query asks for. Text in double quotes is asked for as it stands; an open quote ends with the query."""
    pieces = query.replace("\u201c", '"').replace("\u201d", '"').split('"')
    exactly = tuple(dict.fromkeys(piece.strip() for piece in pieces[1::2] if any(words(piece))))
    found = dict.fromkeys(each.text for piece in pieces for each in _asked(piece))
    return Wanted(words=tuple(found), exactly=exactly)


def digests(texts: Iterable[str], key: bytes) -> list[str]:
    """Words as an index holds them: letters and digits that say nothing to whoever has not the key."""
    seen: dict[str, str] = {}
    return [seen[text] if text in seen else seen.setdefault(text, _digest(text, key)) for text in texts]


def stands(text: str, asked: Wanted) -> bool:
    """Whether the passages that were asked for exactly so stand in the text, as whole words."""
    normal = unicodedata.normalize("NFC", text)
    return all(any(True for _ in _places(normal, each)) for each in asked.exactly)


def passage(text: str, asked: Wanted) -> Passage:
    """The stretch of at most 300 characters that holds the most of what was asked for, the first such one."""
    found = _stretches(text, asked)
    begin = first = _best(found)
    begin = max(0, min(begin - _LEAD, len(text) - SNIPPET))
    while begin and begin < first and not text[begin - 1].isspace():  # not in the middle of a word
        begin += 1
    end = min(len(text), begin + SNIPPET)
    inside = tuple(
        (start - begin, stop - begin) for start, stop, _ in found if begin <= start and stop <= end
    )
    return Passage(text=text[begin:end], stretches=_merged(inside))


def _asked(piece: str) -> Iterator[Word]:
    """The words of a query: of a run without spaces its pairs, a character only when it stands alone."""
    found = list(words(piece))
    paired = {index for each in found if each.end - each.start == 2 for index in (each.start, each.start + 1)}
    for each in found:
        if not (each.end - each.start == 1 and each.start in paired and _joined(piece[each.start])):
            yield each


def _runs(text: str) -> Iterator[tuple[int, int]]:
    if text.isascii():
        yield from (match.span() for match in _ASCII.finditer(text))
        return
    start: int | None = None
    for index, character in enumerate(text):
        inside = _in_word(character)
        if start is not None and (not inside or _joined(text[start]) is not _joined(character)):
            yield start, index
            start = None
        if inside and start is None:
            start = index
    if start is not None:
        yield start, len(text)


@lru_cache(maxsize=65_536)
def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


@lru_cache(maxsize=65_536)
def _joined(character: str) -> bool:
    code = ord(character)
    return code >= 0x0E00 and any(low <= code <= high for low, high in _RANGES)


@lru_cache(maxsize=65_536)
def _folded(text: str) -> str:
    """Without case, width and accents; a text of marks alone stays as it is."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(each for each in apart if not unicodedata.combining(each))
    return unicodedata.normalize("NFKC", (bare or apart).casefold())


def _digest(text: str, key: bytes) -> str:
    return (
        b32encode(hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")[:_DIGEST])
        .decode()
        .lower()
    )


def _places(text: str, piece: str) -> Iterator[int]:
    """Where a piece stands in a text, its ends not inside of words."""
    piece = unicodedata.normalize("NFC", piece)
    at = text.find(piece)
    while at >= 0:
        if not (_inside(text, at) or _inside(text, at + len(piece))):
            yield at
        at = text.find(piece, at + 1)


def _inside(text: str, at: int) -> bool:
    """Whether a word of a script with spaces goes through this place."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    return _in_word(before) and _in_word(after) and not (_joined(before) or _joined(after))


def _stretches(text: str, asked: Wanted) -> list[tuple[int, int, str]]:
    looked_for = set(asked.words)
    return [(each.start, each.end, each.text) for each in words(text) if each.text in looked_for]


def _best(found: Sequence[tuple[int, int, str]]) -> int:
    """Where the stretch with the most different words begins."""
    best, most = 0, 0
    for index, (start, _, _) in enumerate(found):
        near = {text for at, end, text in found[index : index + 64] if end <= start + SNIPPET - _LEAD}
        if len(near) > most:
            best, most = start, len(near)
    return best


def _merged(stretches: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
