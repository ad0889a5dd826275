"""A log in the form in which two runs of one script are equal.

Adjacent deltas are joined, ids are named by their first appearance, times, durations and costs are dropped, sequences
count from one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DROPPED = frozenset(
    {"createTime", "updateTime", "duration", "costMicroUsd", "sequence", "clientTime", "usage"}
)
_WINDOW = frozenset({"windowTokens", "budgetTokens"})
_DELTAS = ("textDelta", "reasoningDelta")


def canonical(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of one session, as ProtoJSON, in canonical form."""
    names: dict[str, str] = {}
    joined: list[dict[str, Any]] = []
    for event in _in_turns(events):
        plain = _named(_without(event), names)
        kind = next((each for each in _DELTAS if each in plain), None)
        if kind and joined and kind in joined[-1]:
            joined[-1][kind]["text"] += plain[kind]["text"]
        else:
            joined.append(plain)
    return joined


def _in_turns(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same events, each turn's together: a message may be accepted while another turn still runs.

    A title that was found in the background belongs to no turn and may come at any time.
    """
    order: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if "turnId" not in event:
            continue
        order.setdefault(event["turnId"], []).append(event)
    return [event for turn in order.values() for event in turn]


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(each) for key, each in value.items() if key not in _DROPPED | _WINDOW}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return value


def _named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _named(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    if isinstance(value, str):
        return _ID.sub(lambda found: names.setdefault(found[0], f"id-{len(names)}"), value)
    return value
