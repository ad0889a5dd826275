"""Summaries: before a window is full, its older half is summarised, in the background, by the session's own model.

Only while no turn runs, never for a private or sealed session. A summary goes on from the one before it; both go with
the messages they were made from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from context_svc import job_rows, summary_rows
from context_svc.background_runs import BackgroundRuns
from context_svc.claims import Claim
from context_svc.errors import SuggestionFailed
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Done, Later, Limits, Result, Then
from context_svc.messages import Branch, branch
from context_svc.runs import Material, Purpose
from context_svc.summary_rows import NewSummary, Summary, covered
from context_svc.turn_rows import TurnState

KIND = "summary"
_AFTERWARDS_US = 3_000_000  # a person who goes on at once is served first
WHILE_BUSY = 2.0  # seconds until it is looked again whether a turn runs
WITHOUT_MONEY = 60.0
LONGEST = 16_000  # characters of a summary
_UNTOUCHED = 4  # newest messages that stay word for word
_ENOUGH = 0.6  # of a branch's bytes: when no more than this is not summarised, nothing is to be done
_PLENTY = 160  # messages: more than so many that are not summarised are too many
_FEWEST = 2


class Marks(Protocol):
    """Reads what messages, settings and reports say."""

    def local_only(self, settings: bytes, messages: tuple[bytes, ...]) -> bool:
        """Whether any of these may be processed on the machines of the mesh alone."""

    def dropped(self, started: bytes) -> int:
        """How many messages a serialised TurnStarted says were left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """Messages to be summarised, from the first one that `base` does not stand for."""

    base: Summary | None
    read: Branch
    begin: int
    settings: bytes
    message_id: str

    def material(self, job: Job, count: int, time_us: int) -> Material:
        """What the model is given to summarise the first `count` of them."""
        until = self.begin + count
        part = Branch(
            messages=self.read.messages[self.begin : until], earlier=0, ids=self.read.ids[self.begin : until]
        )
        claim = Claim(
            turn_id=job.id,
            session_id=job.session_id or "",
            account_id=job.account_id,
            owner=job.owner,
            attempt=job.attempts,
            message_id=self.message_id,
            answer_id="",
            options=b"",
            accepted_sequence=0,
            cancel_device=None,
        )
        return Material(
            claim=claim,
            branch=part,
            settings=self.settings,
            time_us=time_us,
            purpose=Purpose.SUMMARY,
            summary=self.base,
        )


class Summaries:
    """The kind of job that summarises. `idle` says whether no turn runs here."""

    name = KIND
    limits = Limits(tries=3, seconds=600.0)

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        runs: BackgroundRuns,
        marks: Marks,
        idle: Callable[[], bool],
    ) -> None:
        self._database = database
        self._clock = clock
        self._runs = runs
        self._marks = marks
        self._idle = idle

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`. Raises SuggestionFailed and PeerUnavailable."""
        if not self._idle():
            return Later(WHILE_BUSY)
        stretch = await self._database.read(lambda: _stretch(job))
        count = wanted(stretch) if stretch else 0
        while stretch and count >= _FEWEST:
            said = await self._runs.ask(stretch.material(job, count, self._clock.now_us()))
            if said is None:
                return Later(WITHOUT_MONEY)
            if not self._marks.dropped(said.started):
                return Done(self._change(job, stretch, count, said.text))
            count //= 2  # it did not fit whole: what the model did not see it cannot have summarised
        return Done()

    def _change(
        self, job: Job, stretch: Stretch, count: int, text: str
    ) -> Callable[[int], Unit[Then | None]]:
        if not text.strip():
            raise SuggestionFailed("no summary came")
        until = stretch.begin + count
        local = self._marks.local_only(stretch.settings, stretch.read.messages[stretch.begin : until])
        new = NewSummary(
            session_id=job.session_id or "",
            base=stretch.base,
            sources=stretch.read.ids[stretch.begin : until],
            through_depth=stretch.read.earlier + until - 1,
            local_only=local or bool(stretch.base and stretch.base.local_only),
            text=text.strip()[:LONGEST],
        )

        def change(now_us: int) -> Unit[Then | None]:
            yield from summary_rows.insert(new, now_us)
            return None

        return change


def schedule_summary(claim: Claim, state: TurnState, now_us: int) -> Unit[None]:
    """Part of the unit that ends a turn whose window was nearly full: want a summary.

    Never of a private or sealed session.
    """
    found = yield Statement(
        "SELECT 1 AS one FROM session WHERE id = :session AND sealed = 0 AND private = 0",
        {"session": claim.session_id},
    )
    if not found or state is not TurnState.FINISHED:
        return
    job = NewJob(
        id=ids.uuid(),
        kind=KIND,
        subject=claim.session_id,
        account_id=claim.account_id,
        session_id=claim.session_id,
        turn_id=claim.turn_id,
        title="Summarise earlier messages",
        run_us=now_us + _AFTERWARDS_US,
        horizon_us=_AFTERWARDS_US,
    )
    yield from job_rows.add(job, now_us)


def wanted(stretch: Stretch) -> int:
    """How many messages the next summary takes in: the older half of what no summary stands for, by bytes."""
    sizes = [len(each) for each in stretch.read.messages]
    rest = sizes[stretch.begin :]
    if sum(rest) <= _ENOUGH * sum(sizes) and len(rest) <= _PLENTY:
        return 0
    half = sum(1 for total in accumulate(rest) if total <= sum(rest) / 2)
    return max(0, min(max(half, _FEWEST), len(rest) - _UNTOUCHED))


def _stretch(job: Job) -> Unit[Stretch | None]:
    found = yield Statement(
        "SELECT settings, head_message_id FROM session WHERE id = :session AND account_id = :account"
        " AND sealed = 0 AND private = 0",
        {"session": job.session_id, "account": job.account_id},
    )
    if not found or not found[0]["head_message_id"]:
        return None
    head = found[0]["head_message_id"]
    read = yield from branch(job.session_id or "", head, whole=True)
    base = yield from summary_rows.standing(job.session_id or "", read.ids)
    return Stretch(
        base=base,
        read=read,
        begin=covered(base, read),
        settings=bytes(found[0]["settings"] or b""),
        message_id=head,
    )
