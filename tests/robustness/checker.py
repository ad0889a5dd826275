"""What must hold of a mesh whatever happened: pure functions over what clients saw and what is stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ENDINGS = ("turnFinished", "turnFailed", "turnCancelled")
Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one reader got of one session: frames as ProtoJSON, each an event or ``{"snapshot": …}``.

    `after` is the sequence it asked to go on from.
    """

    reader: str
    after: int = 0
    frames: Sequence[Event] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """One session: ids that were acknowledged to a client, ids it tried, its stored log (ProtoJSON).

    `replies` holds what each call with a message id was answered (its TurnAccepted event); `first` is the first
    sequence that is kept; `foreign` names ids that belong to other people.
    """

    session_id: str
    acknowledged: frozenset[str]
    tried: frozenset[str]
    log: Sequence[Event]
    replies: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    readings: Sequence[Reading] = ()
    first: int = 1
    foreign: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """What the model was asked and counted in all, and whether every turn of it ended well."""

    provider_calls: int
    provider_tokens: int
    calls_per_turn: int = 1


def faults(history: History) -> list[str]:
    """Everything that is wrong with one session; empty when the promise was kept."""
    return [
        *_numbering(history),
        *_acceptance(history),
        *_turns(history),
        *_replies(history),
        *(fault for reading in history.readings for fault in _reading(history, reading)),
        *_strangers(history),
    ]


def balance_faults(histories: Sequence[History], balance: Balance) -> list[str]:
    """Whether what the turns report is what the provider did: calls at most as many as turns, tokens equal."""
    started = sum("turnAccepted" in event for history in histories for event in history.log)
    reported = sum(
        int(event[ending].get("usage", {}).get(name, 0))
        for history in histories
        for event in history.log
        for ending in ENDINGS
        if ending in event
        for name in ("inputTokens", "outputTokens")
    )
    return [
        *(
            [f"{balance.provider_calls} calls for {started} turns"]
            if balance.provider_calls > started * balance.calls_per_turn
            else []
        ),
        *(
            [f"{reported} tokens reported, {balance.provider_tokens} used"]
            if reported != balance.provider_tokens
            else []
        ),
    ]


def _numbering(history: History) -> list[str]:
    numbers = [int(event["sequence"]) for event in history.log]
    expected = list(range(history.first, history.first + len(numbers)))
    return [] if numbers == expected else [f"sequences are not dense: {numbers}"]


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
        turn = event.get("turnId", "")
        if turn and ended[turn]:
            found.append(f"an event after the end of turn {turn}")
        ended[turn] += any(ending in event for ending in ENDINGS)
    stuck = {
        event["turnId"] for event in history.log if "turnAccepted" in event and not ended[event["turnId"]]
    }
    return [*found, *(f"a turn that never ended: {turn}" for turn in stuck)]


def _replies(history: History) -> Iterator[str]:
    for message, replies in history.replies.items():
        if len({_text(reply) for reply in replies}) > 1:
            yield f"replies to {message} differ"


def _reading(history: History, reading: Reading) -> Iterator[str]:
    """Each event once, in order, no gap but what one Snapshot covers, each as it is stored."""
    stored = {int(event["sequence"]): _text(event) for event in history.log}
    at = reading.after
    for frame in reading.frames:
        if "snapshot" in frame:
            through = int(frame["snapshot"]["through"]["sequence"])
            if through < at:
                yield f"{reading.reader} was sent back from {at} to {through}"
            at = through
            continue
        sequence = int(frame["sequence"])
        if sequence != at + 1:
            yield f"{reading.reader} saw {sequence} after {at}"
        elif sequence in stored and stored[sequence] != _text(frame):
            yield f"{reading.reader} saw another event {sequence} than is stored"
        elif sequence not in stored and sequence >= history.first:
            yield f"{reading.reader} saw event {sequence}, which is not stored"
        at = sequence


def _strangers(history: History) -> Iterator[str]:
    seen = [*history.log, *(frame for reading in history.readings for frame in reading.frames)]
    for event in seen:
        if event.get("sessionId", history.session_id) != history.session_id:
            yield f"an event of {event['sessionId']}"
    text = json.dumps([*map(_text, seen)]) if history.foreign else ""
    yield from (f"an id of somebody else: {each}" for each in history.foreign if each in text)


def _text(event: Event) -> str:
    return json.dumps(event, sort_keys=True)
