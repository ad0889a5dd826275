"""Titles: after the first finished exchange a session without one is given the model's suggestion, in the background.

Only while no turn runs, never for a private or sealed session, and never over a title that the person set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from context_svc import job_rows
from context_svc import session_rows as rows
from context_svc.background_runs import BackgroundRuns
from context_svc.claims import Claim
from context_svc.errors import SuggestionFailed
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Done, Later, Limits, Result
from context_svc.messages import branch
from context_svc.runs import Material, Purpose
from context_svc.session_rows import Session, TitleSource
from context_svc.sessions import Journal, Then
from context_svc.turn_rows import TurnState

KIND = "title"
LONGEST = 80  # characters
WHILE_BUSY = 2.0  # seconds until it is looked again whether a turn runs
WITHOUT_MONEY = 60.0
_AFTERWARDS_US = 3_000_000  # a person who goes on at once is served first
_WRAPPING = "\"'\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb*#`. \t"  # quotation marks of several languages


class Marks(Protocol):
    """Reads a session's serialised settings."""

    def __call__(self, settings: bytes, /) -> bool:
        """Whether the session is private."""


class Titles:
    """The kind of job that finds titles. `idle` says whether no turn runs here."""

    name = KIND
    limits = Limits(tries=3, seconds=120.0)

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        runs: BackgroundRuns,
        journal: Journal,
        idle: Callable[[], bool],
        is_private: Marks,
    ) -> None:
        self._database = database
        self._clock = clock
        self._runs = runs
        self._journal = journal
        self._idle = idle
        self._is_private = is_private

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`. Raises SuggestionFailed and PeerUnavailable."""
        if not self._idle():
            return Later(WHILE_BUSY)
        material = await self._database.read(lambda: self._material(job))
        if material is None:
            return Done()
        said = await self._runs.ask(material)
        if said is None:
            return Later(WITHOUT_MONEY)
        title = cleaned(said.text)
        if not title:
            raise SuggestionFailed("no title came")
        return Done(lambda now_us: self._set(job, title, now_us))

    def _material(self, job: Job) -> Unit[Material | None]:
        session = yield from rows.find(job.session_id or "", job.account_id)
        if session is None or not wants_title(session, self._is_private):
            return None
        turn = yield Statement(
            "SELECT message_id, answer_id FROM turn WHERE id = :turn", {"turn": job.turn_id}
        )
        if not turn:
            return None
        read = yield from branch(session.id, turn[0]["answer_id"])
        return Material(
            claim=background(job, session.id, turn[0]["message_id"]),
            branch=read,
            settings=session.settings,
            time_us=self._clock.now_us(),
            purpose=Purpose.TITLE,
        )

    def _set(self, job: Job, title: str, now_us: int) -> Unit[Then | None]:
        session = yield from rows.lock(job.session_id or "", job.account_id)
        if session is None or not wants_title(session, self._is_private):
            return None
        if not (yield Statement("SELECT 1 AS one FROM turn WHERE id = :turn", {"turn": job.turn_id})):
            return None  # what it was made of was removed meanwhile
        changed = yield from rows.update(
            session.id, title=title, title_source=TitleSource.MODEL, settings=session.settings, now_us=now_us
        )
        return (yield from self._journal.session_changed(changed, ("title",)))


def schedule_title(claim: Claim, state: TurnState, now_us: int) -> Unit[None]:
    """Part of the unit that ends a turn: want a title when the session has none and this was an answer."""
    if state is not TurnState.FINISHED:
        return
    found = yield Statement(
        "SELECT 1 AS one FROM session WHERE id = :session AND title = '' AND sealed = 0 AND private = 0",
        {"session": claim.session_id},
    )
    if found:
        yield from job_rows.add(_job(claim, now_us), now_us)


def wants_title(session: Session, is_private: Marks) -> bool:
    """Whether a title may be suggested for this session."""
    return not (session.title or session.sealed or is_private(session.settings))


def cleaned(text: str) -> str:
    """The first line of what a model said, without the marks models put around titles, at most 80 characters."""
    line = next((line.strip(_WRAPPING) for line in text.splitlines() if line.strip(_WRAPPING)), "")
    words = " ".join(line.removeprefix("Title:").strip(_WRAPPING).split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1].rstrip() + "…"


def _job(claim: Claim, now_us: int) -> NewJob:
    return NewJob(
        id=ids.uuid(),
        kind=KIND,
        subject=claim.session_id,
        account_id=claim.account_id,
        session_id=claim.session_id,
        turn_id=claim.turn_id,
        title="Find a title",
        run_us=now_us + _AFTERWARDS_US,
        horizon_us=_AFTERWARDS_US,
    )


def background(job: Job, session_id: str, message_id: str) -> Claim:
    """What a run is told of whom it is for; it has no turn of its own, so its job stands in."""
    return Claim(
        turn_id=job.id,
        session_id=session_id,
        account_id=job.account_id,
        owner=job.owner,
        attempt=job.attempts,
        message_id=message_id,
        answer_id="",
        options=b"",
        accepted_sequence=0,
        cancel_device=None,
    )
