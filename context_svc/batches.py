"""Messages that a device sends together: an outcome for each, and their order kept within a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from chassis.errors import ServiceError
from context_svc.journal import Entry
from context_svc.turns import Accepted, Submission

_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """It was not tried, because one before it failed for a passing reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """One message of a batch: what it says, or why it cannot be read."""

    message_id: str
    session_id: str
    content: Submission | ServiceError


Outcome: TypeAlias = Entry | ServiceError | Skipped


async def send_all(
    letters: Sequence[Letter], accept: Callable[[Submission], Awaitable[Accepted]]
) -> tuple[Outcome, ...]:
    """Accept each message; outcomes in the order of the letters. Sessions go side by side."""
    outcomes: dict[int, Outcome] = {}
    sessions: dict[str, list[int]] = {}
    for place, letter in enumerate(letters):
        sessions.setdefault(letter.session_id, []).append(place)

    async def send(places: Sequence[int]) -> None:
        held_up = False
        for place in places:
            outcome = Skipped() if held_up else await _outcome(letters[place], accept)
            held_up = held_up or (isinstance(outcome, ServiceError) and outcome.code in _PASSING)
            outcomes[place] = outcome

    async with asyncio.TaskGroup() as group:
        for places in sessions.values():
            group.create_task(send(places))
    return tuple(outcomes[place] for place in range(len(letters)))


async def _outcome(letter: Letter, accept: Callable[[Submission], Awaitable[Accepted]]) -> Outcome:
    if isinstance(letter.content, ServiceError):
        return letter.content
    try:
        return (await accept(letter.content)).entry
    except ServiceError as error:
        return error
