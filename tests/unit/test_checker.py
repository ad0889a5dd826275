"""The checker of the robustness loops sees each kind of fault."""

from __future__ import annotations

from typing import Any

import pytest

from tests.robustness.checker import History, faults


def accepted(sequence: int, turn: str, message: str) -> dict[str, Any]:
    return {
        "sessionId": "s",
        "sequence": str(sequence),
        "turnId": turn,
        "turnAccepted": {"message": {"id": message}},
    }


def ended(sequence: int, turn: str) -> dict[str, Any]:
    return {"sessionId": "s", "sequence": str(sequence), "turnId": turn, "turnFinished": {}}


def history(
    *log: dict[str, Any], acknowledged: tuple[str, ...] = ("m",), tried: tuple[str, ...] = ("m",)
) -> History:
    return History(session_id="s", acknowledged=frozenset(acknowledged), tried=frozenset(tried), log=log)


def test_a_whole_history_has_no_fault() -> None:
    assert not faults(history(accepted(1, "t", "m"), ended(2, "t")))


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (history(), "lost"),
        (history(accepted(1, "t", "m"), ended(3, "t")), "dense"),
        (history(accepted(1, "t", "m")), "never ended"),
        (history(accepted(1, "t", "m"), ended(2, "t"), ended(3, "t")), "after the end"),
        (history(accepted(1, "t", "m"), ended(2, "t"), accepted(3, "u", "m"), ended(4, "u")), "2 times"),
        (history(accepted(1, "t", "x"), ended(2, "t"), acknowledged=()), "nobody sent"),
        (history({**accepted(1, "t", "m"), "sessionId": "other"}, ended(2, "t")), "an event of other"),
    ],
)
def test_each_fault_is_named(wrong: History, word: str) -> None:
    assert any(word in fault for fault in faults(wrong))
