"""What must hold of a session's log whatever happened: a pure function over what clients saw and what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENDINGS = ("turnFinished", "turnFailed", "turnCancelled")
Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """One session: ids that were acknowledged to a client, ids it tried, its stored log (ProtoJSON)."""

    session_id: str
    acknowledged: frozenset[str]
    tried: frozenset[str]
    log: Sequence[Event]


def faults(history: History) -> list[str]:
    """Everything that is wrong; empty when the promise was kept."""
    return [
        *_numbering(history),
        *_acceptance(history),
        *_turns(history),
        *(
            f"an event of {event['sessionId']}"
            for event in history.log
            if event["sessionId"] != history.session_id
        ),
    ]


def _numbering(history: History) -> list[str]:
    numbers = [int(event["sequence"]) for event in history.log]
    return [] if numbers == list(range(1, len(numbers) + 1)) else [f"sequences are not dense: {numbers}"]


def _acceptance(history: History) -> list[str]:
    stored = Counter(
        event["turnAccepted"]["message"]["id"] for event in history.log if "turnAccepted" in event
    )
    return [
        *(f"acknowledged and lost: {each}" for each in history.acknowledged if not stored[each]),
        *(f"stored {count} times: {each}" for each, count in stored.items() if count > 1),
        *(f"nobody sent it: {each}" for each in stored if each not in history.tried),
    ]


def _turns(history: History) -> list[str]:
    ended: Counter[str] = Counter()
    found = []
    for event in history.log:
        turn = event.get("turnId", "")  # a new title or new settings belong to no turn
        if turn and ended[turn]:
            found.append(f"an event after the end of turn {turn}")
        ended[turn] += any(ending in event for ending in ENDINGS)
    stuck = {
        event["turnId"] for event in history.log if "turnAccepted" in event and not ended[event["turnId"]]
    }
    return [*found, *(f"a turn that never ended: {turn}" for turn in stuck)]
