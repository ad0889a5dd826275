"""Promises and proofs match: every claimed row has a test, every cited id is a row."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| ([A-Z0-9]+-\d+) \| (done|partly|open)\b([^|]*)\|", re.MULTILINE)
_MARK = re.compile(r"requirement\(([^)]*)\)")
_ID = re.compile(r"[A-Z0-9]+-\d+")


def rows() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs/requirements.md").read_text()
    return {match[1]: (match[2], match[3].strip()) for match in _ROW.finditer(text)}


def citations() -> dict[str, set[str]]:
    cited: dict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "tests").rglob("*.py"):
        if path == Path(__file__):
            continue
        for mark in _MARK.finditer(path.read_text()):
            for each in _ID.findall(mark[1]):
                cited[each].add(path.relative_to(ROOT).as_posix())
    return cited


def test_every_row_of_the_table_is_read() -> None:
    assert len(rows()) >= 90


def test_every_claimed_row_is_proved_by_a_test() -> None:
    cited = citations()
    unproved = [row for row, (state, _) in rows().items() if state != "open" and row not in cited]
    assert not unproved


def test_every_cited_id_is_a_row() -> None:
    unknown = {each: places for each, places in citations().items() if each not in rows()}
    assert not unknown


def test_a_row_that_is_partly_done_says_what_holds() -> None:
    silent = [row for row, (state, note) in rows().items() if state == "partly" and not note.startswith("(")]
    assert not silent
