"""The texts in an action's arguments, and whether the person typed them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_EDGES = (
    "\"'`.,;:!?()[]{}<>\u00ab\u00bb\u201e\u201c\u201d\u2018\u2019\u2026\u00bf\u00a1"
    "\u3001\u3002\uff0c\uff01\uff1f\u300c\u300d"
)
_LONG_NUMBER = 6  # digits: a shorter number carries nothing worth taking
_TELLING_TEXT, _TELLING_DIGITS = 4, 4  # what is shorter stands everywhere by chance


def decoded(text: str) -> object:
    """The value of some JSON; None for what is none."""
    try:
        value: object = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value


def texts(value: object, *, numbers: bool = False) -> Iterator[str]:
    """Every text in a value, names of fields too where they are no schema's; with `numbers` these as text."""
    match value:
        case str():
            yield value
        case bool() | None:
            return
        case int() | float() if numbers:
            yield json.dumps(value)
        case dict():
            for each in value.values():
                yield from texts(each, numbers=numbers)
        case list():
            for each in value:
                yield from texts(each, numbers=numbers)
        case _:
            return


def free_texts(arguments: str, schema: Mapping[str, Any], *, wordless: Sequence[str] = ()) -> Iterator[str]:
    """The texts in arguments that their schema does not list: what could carry something out.

    A long number counts, and so does the name of a field that the schema does not have.
    """
    value = decoded(arguments)
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if name not in wordless}
    yield from _free(value, schema, schema)


def typed(text: str, said: str) -> bool:
    """Whether the person typed a text: as a whole, or each of its words, an address being one word."""
    wanted, heard = text.casefold().strip(), said.casefold()
    return wanted in heard if _solid(wanted) else wanted in heard or _words(wanted) <= _words(heard)


def holds(arguments: str, confined: Sequence[str]) -> bool:
    """Whether arguments contain one of these texts or numbers, a number also when it is rounded a little."""
    if not confined:
        return False
    given = "\n".join(texts(decoded(arguments), numbers=True)).casefold()
    return any(_stands(each.casefold().strip(), given) for each in confined)


def _free(value: object, schema: object, root: Mapping[str, Any]) -> Iterator[str]:
    described = _resolved(schema, root)
    if _listed(value, described, root):
        return
    match value:
        case str():
            if value.strip():
                yield value
        case bool() | None:
            return
        case int() | float():
            if len(re.sub(r"\D", "", json.dumps(value))) >= _LONG_NUMBER:
                yield json.dumps(value)
        case dict():
            known = described.get("properties", {})
            for name, each in value.items():
                if name not in known:
                    yield name
                yield from _free(each, known.get(name, {}), root)
        case list():
            for each in value:
                yield from _free(each, described.get("items", {}), root)


def _listed(value: object, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether the schema itself names the value."""
    if value in schema.get("enum", ()) or ("const" in schema and schema["const"] == value):
        return True
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return any(_listed(value, _resolved(branch, root), root) for branch in branches)


def _resolved(schema: object, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema if isinstance(schema, dict) else {}
    reference = found.get("$ref", "")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        named = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        return named if isinstance(named, dict) else {}
    return found


def _solid(text: str) -> bool:
    """Whether a text is one word with marks inside it: an address, a path, a name of a file."""
    return not re.search(r"\s", text) and bool(re.search(r"[^\w\s'-]", text.strip(_EDGES)))


def _words(text: str) -> set[str]:
    return {word for chunk in text.split() if (word := chunk.strip(_EDGES))}


def _stands(wanted: str, given: str) -> bool:
    if re.fullmatch(r"-?\d+(\.\d+)?", wanted):
        digits = wanted.lstrip("-")
        rounded = digits[: max(_TELLING_DIGITS + 1, len(digits) * 2 // 3)]  # 38.7223 also as 38.72
        return len(re.sub(r"\D", "", digits)) >= _TELLING_DIGITS and rounded in given
    return len(wanted) >= _TELLING_TEXT and wanted in given
