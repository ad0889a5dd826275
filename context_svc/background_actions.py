"""The kind of job that runs an action which another one left behind: as a turn of its own, in the same session.

So it is under the same rules as any action: it asks, it is fenced, an effect of it runs once or is in doubt. Its
arguments were not typed by anybody. The job waits while the turn runs, and ends with an event that says how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Protocol

from chassis import ids
from chassis.database import Database, Statement, Unit
from context_svc import job_rows
from context_svc import session_rows as sessions
from context_svc.executions import Execution, Executions
from context_svc.job_rows import Job, JobState
from context_svc.jobs import Done, Later, Limits, Result, Then, pause
from context_svc.journal import Draft, Entry, Journal, Kind, Publish
from context_svc.leavings import KIND, Work
from context_svc.run_frames import Call
from context_svc.session_rows import SessionState
from context_svc.turn_rows import Key, TurnState, open_rows
from context_svc.turns import MOST_OPEN_TURNS, Turns

AT_ONCE = 1.0  # seconds until a turn that found no room is tried again
LONGEST_TURN = 25 * 3600.0  # seconds: longer than a turn may wait for the person
_REPEATED = frozenset({"failed", ""})


class BackgroundCodec(Protocol):
    """Writes and reads what such jobs put into the log."""

    def call(self, event: bytes) -> Call:
        """The call of a serialised ChatEvent that tells of its begin or its end."""

    def given_call(self, call_id: str, action: str, arguments: str) -> bytes:
        """A serialised ToolCallPart."""

    def job_finished(self, job_id: str, state: JobState, message: str) -> bytes:
        """A serialised JobFinished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """How a try stands: open, or over with the state of its turn, its reason, and what became of its call."""

    open: bool
    state: TurnState
    reason: str
    outcome: str
    effect: bool


class BackgroundActions:
    """See `context_svc.jobs.Kind`. `wake` looks for queued turns, `stop` ends a running one."""

    name = KIND
    limits = Limits(tries=0, seconds=60.0)

    def __init__(
        self,
        *,
        database: Database,
        journal: Journal,
        codec: BackgroundCodec,
        executions: Executions,
        turns: Turns,
        publish: Publish,
        wake: Callable[[str, str], None],
        stop: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._journal = journal
        self._codec = codec
        self._executions = executions
        self._turns = turns
        self._publish = publish
        self._wake = wake
        self._stop = stop

    async def run(self, job: Job) -> Result:
        """Begin a try, or settle one that is over."""
        work = Work.of(job.payload)
        if not work.turn_id:
            return Later(AT_ONCE, lambda now_us: self._begin(job, work, now_us))
        found = await self._database.read(lambda: self._outcome(work.turn_id))
        if found.open:
            return Later(LONGEST_TURN)
        state, reason = _ended(found)
        again = state is JobState.FAILED and found.outcome in _REPEATED and not found.effect
        if again and work.tried < work.tries:
            fresh = replace(work, turn_id="")
            return Later(pause(work.tried), lambda _now_us: _remember(job.id, fresh))
        return Done(lambda now_us: self._end(job, work, state, now_us), state=state, reason=reason)

    def cancelled(self, job: Job, now_us: int) -> Unit[Then | None]:
        """Part of the unit that cancels the job: its turn ends with it."""
        work = Work.of(job.payload)
        entries: tuple[Entry, ...] = ()
        rows = yield Statement("SELECT state FROM turn WHERE id = :id", {"id": work.turn_id})
        running = bool(rows) and not TurnState(rows[0]["state"]).over
        if running:
            cancelled = yield from self._turns.cancel(
                job.account_id,
                job.session_id or "",
                work.turn_id,
                request_id=job.id,
                device_id="",
                now_us=now_us,
            )
            entries = cancelled.entries
        told = yield from self._tell(job, JobState.CANCELLED, now_us)

        def then() -> None:
            self._publish((*entries, *told))
            if running:
                self._stop(work.turn_id, "")

        return then

    def _begin(self, job: Job, work: Work, now_us: int) -> Unit[Then | None]:
        session = yield from sessions.find(job.session_id or "", job.account_id)
        if session is None or session.sealed or session.state is SessionState.ENDED:
            yield from job_rows.end(job, JobState.FAILED, "SESSION_ENDED", now_us)
            if session is None:
                return None
            told = yield from self._tell(job, JobState.FAILED, now_us)
            return lambda: self._publish(told)
        if len((yield from open_rows(session.id))) >= MOST_OPEN_TURNS:
            return None
        tried = work.tried + 1
        given = self._codec.given_call(f"{job.id}.{tried}"[:64], work.action, work.arguments)
        key = Key(account_id=job.account_id, request_id=f"{job.id}.{tried}", body_hash=sha256(given).digest())
        execution = Execution(key=key, session_id=session.id, action=given, approved=False, job_id=job.id)
        accepted = yield from self._executions.accept(
            execution, turn_id=ids.uuid(), answer_id=ids.uuid(), now_us=now_us
        )
        yield from _remember(job.id, replace(work, tried=tried, turn_id=accepted.turn_id))
        yield from job_rows.postpone(job.id, now_us + round(LONGEST_TURN * 1e6))

        def then() -> None:
            self._publish([accepted.entry])
            self._wake(session.id, job.account_id)

        return then

    def _outcome(self, turn_id: str) -> Unit[_Outcome]:
        rows = yield Statement("SELECT state, reason FROM turn WHERE id = :id", {"id": turn_id})
        if not rows:  # its session was emptied meanwhile
            return _Outcome(open=False, state=TurnState.CANCELLED, reason="", outcome="", effect=False)
        events = yield Statement(
            "SELECT e.kind, e.data FROM turn t JOIN event e ON e.session_id = t.session_id"
            " AND e.sequence > t.accepted_sequence AND e.turn_id = t.id"
            " WHERE t.id = :id AND e.kind IN (14, 16) ORDER BY e.sequence",
            {"id": turn_id},
        )
        calls = [(row["kind"], self._codec.call(bytes(row["data"]))) for row in events]
        state = TurnState(rows[0]["state"])
        return _Outcome(
            open=not state.over,
            state=state,
            reason=rows[0]["reason"] or "",
            outcome=next((call.outcome for kind, call in reversed(calls) if kind == Kind.TOOL_FINISHED), ""),
            effect=any(call.effect for kind, call in calls if kind == Kind.TOOL_STARTED),
        )

    def _end(self, job: Job, work: Work, state: JobState, now_us: int) -> Unit[Then | None]:
        yield from job_rows.count_tries(job.id, work.tried)
        told = yield from self._tell(job, state, now_us)
        return lambda: self._publish(told)

    def _tell(self, job: Job, state: JobState, now_us: int) -> Unit[tuple[Entry, ...]]:
        payload = self._codec.job_finished(job.id, state, f"{job.title}: {_WORDS[state]}.")
        draft = Draft(kind=Kind.JOB_FINISHED, turn_id="", payload=lambda _sequence, _time: payload)
        return (yield from self._journal.append(job.session_id or "", [draft], now_us))


def _ended(found: _Outcome) -> tuple[JobState, str]:
    """How the job ends, and why."""
    if found.outcome == "in_doubt" or found.reason == "EFFECT_IN_DOUBT":
        return JobState.IN_DOUBT, "EFFECT_IN_DOUBT"
    match found.state:
        case TurnState.CANCELLED:
            return JobState.CANCELLED, ""
        case TurnState.FINISHED if found.outcome == "done":
            return JobState.DONE, ""
        case TurnState.FINISHED:
            return JobState.FAILED, "ACTION_DENIED" if found.outcome == "denied" else "ACTION_FAILED"
        case _:
            return JobState.FAILED, found.reason


_WORDS = {
    JobState.DONE: "done",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.IN_DOUBT: "may or may not have happened",
}


def _remember(job_id: str, work: Work) -> Unit[None]:
    yield Statement(
        "UPDATE job SET payload = :payload WHERE id = :id", {"payload": work.payload(), "id": job_id}
    )
