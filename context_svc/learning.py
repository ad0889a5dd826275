"""Learning: the same explicit choice in five turns running becomes one suggestion, in the background.

A choice is explicit when the person's message made it. What a session or the preferences say is no choice of a turn,
and turns of private and sealed sessions teach nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis import ids
from chassis.database import Database, Row, Statement, Unit
from context_svc import job_rows, preference_rows, suggestions
from context_svc.claims import Claim
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Done, Limits, Result, Then
from context_svc.preference_rows import Stored
from context_svc.suggestions import Evidence, Suggestion, SuggestionState
from context_svc.titles import Marks
from context_svc.turn_rows import TurnState

KIND = "learning"
RUN = 5  # turns
_LOOKED_AT = 50  # turns, to find five that may be looked at
_AFTERWARDS_US = 1_000_000


class Choices(Protocol):
    """Reads what turns and preferences say."""

    def of_turn(self, options: bytes) -> Mapping[str, str]:
        """What a message chose itself, by field: model, units, language."""

    def preferred(self, stored: Stored) -> Mapping[str, str]:
        """What the person prefers or accepted already, by field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A turn, and what its message chose."""

    evidence: Evidence
    values: Mapping[str, str]


class Learning:
    """The kind of job that looks for habits."""

    name = KIND
    limits = Limits(tries=3, seconds=30.0)

    def __init__(self, database: Database, choices: Choices, is_private: Marks) -> None:
        self._database = database
        self._choices = choices
        self._is_private = is_private

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        rows = await self._database.read(lambda: _turns(job.account_id))
        seen = [self._choice(row) for row in rows if not self._is_private(bytes(row["settings"]))]
        found = habits(seen)
        return Done(lambda now_us: self._propose(job.account_id, found, now_us)) if found else Done()

    def _choice(self, row: Row) -> Choice:
        return Choice(
            evidence=Evidence(session_id=row["session_id"], turn_id=row["id"], choose_us=row["create_us"]),
            values=self._choices.of_turn(bytes(row["options"])),
        )

    def _propose(
        self, account_id: str, found: Mapping[str, tuple[str, tuple[Evidence, ...]]], now_us: int
    ) -> Unit[Then | None]:
        preferred = self._choices.preferred((yield from preference_rows.find(account_id)))
        for field, (value, evidence) in found.items():
            if preferred.get(field) != value:
                new = Suggestion(
                    id=ids.uuid(),
                    field=field,
                    value=value,
                    evidence=evidence,
                    state=SuggestionState.PENDING,
                    create_us=now_us,
                )
                yield from suggestions.add(account_id, new)
        return None


def schedule_learning(claim: Claim, state: TurnState, now_us: int) -> Unit[None]:
    """Part of the unit that ends a turn: look for a habit when its message chose something itself."""
    if claim.options:
        yield from job_rows.add(_job(claim, now_us), now_us)


def habits(newest_first: Sequence[Choice]) -> dict[str, tuple[str, tuple[Evidence, ...]]]:
    """What the last five turns all chose alike, by field, with the turns, oldest first."""
    if len(newest_first) < RUN:
        return {}
    last = newest_first[:RUN]
    evidence = tuple(each.evidence for each in reversed(last))
    return {
        field: (value, evidence)
        for field, value in last[0].values.items()
        if all(each.values.get(field) == value for each in last)
    }


def _turns(account_id: str) -> Unit[Sequence[Row]]:
    return (
        yield Statement(
            "SELECT t.id, t.session_id, t.options, t.create_us, s.settings FROM turn t"
            " JOIN session s ON s.id = t.session_id"
            " WHERE t.account_id = :account AND t.state >= 5 AND s.sealed = 0"
            " ORDER BY t.create_us DESC, t.id DESC LIMIT :limit",
            {"account": account_id, "limit": _LOOKED_AT},
        )
    )


def _job(claim: Claim, now_us: int) -> NewJob:
    return NewJob(
        id=ids.uuid(),
        kind=KIND,
        subject=claim.account_id,
        account_id=claim.account_id,
        turn_id=claim.turn_id,
        title="Look for habits",
        run_us=now_us + _AFTERWARDS_US,
        horizon_us=_AFTERWARDS_US,
    )
