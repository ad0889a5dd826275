"""Which actions a few words are about: BM25 over their names, descriptions and parameters. Pure and deterministic."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from orchestrator_svc.prompt import ToolSpec

_SATURATION, _LENGTH = 1.2, 0.75  # k1 and b, as usual
_NAME, _PARAMETER = 3.0, 2.0  # how much more a word says there than in the description
_LONGEST = 4_000  # characters of what was said that are looked at: its end
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")
_JOINED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}")  # written without spaces
_SILENT = frozenset(
    _WORD.findall(
        "a about all am an and any are as at be been but by can could did do does for from get give had has have how i "
        "if in into is it its just know let like make me my need no not now of on one or our out please she should so "
        "some tell than that the their them then there these they this to up us use want was we were what when where "
        "which who why will with would you your"
    )
)


class Relevance:
    """An index of actions."""

    def __init__(self, specs: Iterable[ToolSpec]) -> None:
        bags = {spec.name: _bag(spec) for spec in specs}
        usual = sum(map(_size, bags.values())) / max(1, len(bags)) or 1.0
        named: dict[str, list[str]] = {}
        for name, bag in bags.items():
            for word in bag:
                named.setdefault(word, []).append(name)
        self._scores: dict[str, tuple[tuple[str, float], ...]] = {}
        for word, names in named.items():
            rare = math.log(1 + (len(bags) - len(names) + 0.5) / (len(names) + 0.5))
            self._scores[word] = tuple((name, rare * _weight(bags[name], word, usual)) for name in names)

    def ranked(self, text: str, *, least: float) -> tuple[str, ...]:
        """Names of what the text is about, the best first; without those below `least` of the best's score."""
        scores: dict[str, float] = {}
        for word in dict.fromkeys(_words(text[-_LONGEST:])):  # in order: a sum of floats depends on it
            if word not in _SILENT:
                for name, score in self._scores.get(word, ()):
                    scores[name] = scores.get(name, 0.0) + score
        floor = least * max(scores.values(), default=0.0)
        able = (name for name, score in scores.items() if score >= floor)
        return tuple(sorted(able, key=lambda name: (-scores[name], name)))


@lru_cache(maxsize=8)  # the actions of a room change seldom; nothing that anybody said is kept
def relevance(specs: tuple[ToolSpec, ...]) -> Relevance:
    """The index of these actions."""
    return Relevance(specs)


def _weight(bag: Mapping[str, float], word: str, usual: float) -> float:
    """How much the word counts for an action, the less the more other words it has."""
    damping = _SATURATION * (1 - _LENGTH + _LENGTH * _size(bag) / usual)
    return bag[word] * (_SATURATION + 1) / (bag[word] + damping)


def _size(bag: Mapping[str, float]) -> float:
    return sum(bag.values())


def _bag(spec: ToolSpec) -> Mapping[str, float]:
    """The words of an action, each with how much it counts."""
    bag: Counter[str] = Counter()
    parameters = json.loads(spec.schema or "{}").get("properties", {})
    for text, weight in ((spec.name, _NAME), (" ".join(parameters), _PARAMETER), (spec.description, 1.0)):
        for word in _words(text):
            bag[word] += weight  # type: ignore[assignment]
    return bag


def _words(text: str) -> Iterator[str]:
    """Words without case, accents and a plural's s; of writing without spaces every pair of characters."""
    text = _CAMEL.sub(" ", text)
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", text)
        bare = "".join(each for each in apart if not unicodedata.combining(each))
        text = unicodedata.normalize("NFKC", bare)
    for match in _WORD.finditer(text.casefold()):
        word = match[0]
        if _JOINED.fullmatch(word):
            yield from (word[at : at + 2] for at in range(len(word) - 1))
        else:
            yield word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
