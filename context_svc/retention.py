"""Retention: what a person wants to be kept only so long goes, and leaves a tombstone in its log.

One job for the whole store looks each hour. Its own due time tells whether the clock can be believed: when much more
time has passed than it asked for, the clock was set forward or the mesh was off, and it waits a day before it
removes anything. Setting the clock back removes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from context_svc import job_rows
from context_svc import session_rows as rows
from context_svc.clearing import TombstoneCodec, relabel, remove, tombstone
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Later, Limits, Result
from context_svc.journal import Entry, Journal, Publish
from context_svc.preference_rows import Stored
from context_svc.session_rows import Session

KIND = "retention"
EVERY = 3_600.0  # seconds between two looks
DOUBT = 86_400.0  # seconds that a surprising time must have stood before anything is removed
_PAGE = 200
_SECOND = 1_000_000


class Retention:
    """The kind of job that removes what is older than its session keeps.

    `kept_us` tells from a session's settings and its person's preferences, both serialised, for how many
    microseconds messages are kept; None: until deleted.
    """

    name = KIND
    limits = Limits(tries=0, seconds=600.0)

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        journal: Journal,
        codec: TombstoneCodec,
        publish: Publish,
        kept_us: Callable[[bytes, Stored], int | None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._journal = journal
        self._codec = codec
        self._publish = publish
        self._kept_us = kept_us

    async def prepare(self) -> None:
        """See that the job exists; one that was there goes on as it was."""
        now_us = self._clock.now_us()
        job = NewJob(id=ids.uuid(), kind=KIND, subject="", run_us=now_us)
        await self._database.write(KIND, lambda: job_rows.add(job, now_us))

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        now_us = self._clock.now_us()
        if now_us - job.run_us > DOUBT * _SECOND:
            return Later(DOUBT)
        after = ""
        while page := await self._database.read(lambda after=after: _with_settings(after)):  # type: ignore[misc]
            for row in page:
                await self._sweep(row, now_us)
            after = page[-1]["id"]
        await self._database.scrub()
        return Later(EVERY)

    async def _sweep(self, row: Row, now_us: int) -> None:
        own, accepted = (bytes(row[name] or b"") for name in ("own", "accepted"))
        kept_us = self._kept_us(bytes(row["settings"]), Stored(own=own, accepted=accepted))
        if kept_us is None:
            return
        session_id, account = row["id"], row["account_id"]
        await self._database.write(
            session_id,
            lambda: self._remove(session_id, account, now_us - kept_us, now_us),
            committed=self._publish,
        )

    def _remove(self, session_id: str, account: str, before_us: int, now_us: int) -> Unit[tuple[Entry, ...]]:
        session = yield from rows.lock(session_id, account)
        if session is None:
            return ()
        through = yield from _reach(session, before_us)
        if not (yield from _anything(session_id, through)):
            return ()
        yield from remove(session_id, through)
        left = yield from relabel(session, through)
        drafts = tombstone(self._codec, left, session, through)
        entries = yield from self._journal.append(session_id, drafts, now_us)
        yield Statement(
            "UPDATE session SET update_us = :update WHERE id = :id",
            {"update": session.update_us, "id": session_id},
        )
        return entries


def _with_settings(after: str) -> Unit[Sequence[Row]]:
    return (
        yield Statement(
            "SELECT s.id, s.account_id, s.settings, p.own, p.accepted FROM session s"
            " LEFT JOIN preference p ON p.account_id = s.account_id"
            " WHERE s.id > :after ORDER BY s.id LIMIT :limit",
            {"after": after, "limit": _PAGE},
        )
    )


def _reach(session: Session, before_us: int) -> Unit[int]:
    """The last sequence that goes: everything up to it is too old, and neither an open turn nor what it answers
    lies there.
    """
    found = yield Statement(
        "SELECT min(sequence) AS kept FROM (SELECT min(sequence) AS sequence FROM event"
        " WHERE session_id = :session AND create_us >= :before UNION ALL"
        " SELECT min(accepted_sequence) AS sequence FROM turn WHERE session_id = :session AND state < 5 UNION ALL"
        " SELECT min(m.sequence) AS sequence FROM turn t JOIN message m ON m.session_id = t.session_id"
        " AND m.id IN (t.message_id, t.parent_id) WHERE t.session_id = :session AND t.state < 5) bounds",
        {"session": session.id, "before": before_us},
    )
    kept: int | None = found[0]["kept"]
    return session.last_sequence if kept is None else kept - 1


def _anything(session_id: str, through: int) -> Unit[bool]:
    """Whether there is more to remove than the tombstones of earlier times."""
    found = yield Statement(
        "SELECT 1 AS one FROM event WHERE session_id = :session AND sequence <= :through"
        " AND kind NOT IN (25, 26) LIMIT 1",
        {"session": session_id, "through": through},
    )
    return bool(found)
