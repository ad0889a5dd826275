"""The checker of the robustness loops sees each kind of fault."""

from __future__ import annotations

from typing import Any

import pytest

from tests.robustness.checker import Balance, History, Reading, balance_faults, faults


def accepted(sequence: int, turn: str, message: str) -> dict[str, Any]:
    return {
        "sessionId": "s",
        "sequence": str(sequence),
        "turnId": turn,
        "turnAccepted": {"message": {"id": message}},
    }


def ended(sequence: int, turn: str, tokens: int = 0) -> dict[str, Any]:
    usage = {"usage": {"inputTokens": str(tokens)}} if tokens else {}
    return {"sessionId": "s", "sequence": str(sequence), "turnId": turn, "turnFinished": usage}


def history(
    *log: dict[str, Any],
    acknowledged: tuple[str, ...] = ("m",),
    tried: tuple[str, ...] = ("m",),
    **more: Any,
) -> History:
    return History(
        session_id="s", acknowledged=frozenset(acknowledged), tried=frozenset(tried), log=log, **more
    )


FIRST, LAST = accepted(1, "t", "m"), ended(2, "t")
CLEAR = {"sessionId": "s", "sequence": "3", "messagesCleared": {}}


def read(*frames: dict[str, Any], after: int = 0) -> History:
    return history(FIRST, LAST, readings=(Reading(reader="phone", after=after, frames=frames),))


def snapshot(through: int) -> dict[str, Any]:
    return {"snapshot": {"through": {"sequence": str(through)}}}


@pytest.mark.parametrize(
    "whole",
    [
        history(FIRST, LAST),
        history(FIRST, LAST, CLEAR, {**CLEAR, "sequence": "4"}),
        read(FIRST, LAST),
        read(LAST, after=1),
        read(FIRST),
        read(snapshot(1), LAST),
        history(accepted(5, "t", "m"), ended(6, "t"), first=5),
        history(FIRST, LAST, replies={"m": (FIRST, FIRST)}),
    ],
)
def test_a_whole_history_has_no_fault(whole: History) -> None:
    assert not faults(whole)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (history(), "lost"),
        (history(FIRST, ended(3, "t")), "dense"),
        (history(FIRST, LAST, first=2), "dense"),
        (history(FIRST), "never ended"),
        (history(FIRST, LAST, ended(3, "t")), "after the end"),
        (history(FIRST, LAST, accepted(3, "u", "m"), ended(4, "u")), "2 times"),
        (history(accepted(1, "t", "x"), LAST, acknowledged=()), "nobody sent"),
        (history({**FIRST, "sessionId": "other"}, LAST), "an event of other"),
        (history(FIRST, LAST, replies={"m": (FIRST, accepted(1, "u", "m"))}), "differ"),
        (read(LAST), "saw 2 after 0"),
        (read(FIRST, FIRST), "saw 1 after 1"),
        (read(FIRST, ended(2, "u")), "another event 2"),
        (read(FIRST, LAST, ended(3, "t")), "not stored"),
        (read(FIRST, LAST, snapshot(1)), "sent back from 2 to 1"),
        (history(FIRST, LAST, foreign=frozenset({"m"})), "somebody else"),
    ],
)
def test_each_fault_is_named(wrong: History, word: str) -> None:
    assert any(word in fault for fault in faults(wrong))


@pytest.mark.parametrize(
    ("balance", "words"),
    [
        (Balance(provider_calls=1, provider_tokens=7), ()),
        (Balance(provider_calls=0, provider_tokens=7), ()),
        (Balance(provider_calls=2, provider_tokens=7), ("2 calls for 1 turns",)),
        (Balance(provider_calls=1, provider_tokens=9), ("7 tokens reported, 9 used",)),
    ],
)
def test_a_balance_that_does_not_add_up_is_named(balance: Balance, words: tuple[str, ...]) -> None:
    assert tuple(balance_faults([history(FIRST, ended(2, "t", tokens=7))], balance)) == words
