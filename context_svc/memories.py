"""Memories: what a person said about themselves, proposed by the model in the background, theirs to edit and delete.

The model is shown the person's own words alone, and a memory is kept only where it is one of their sentences, word
for word: nothing that a page, a file or an action brought into the conversation can plant a memory, and no model can
make one up. Only while no turn runs, never for a private or sealed session, never where the
person does not want it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from context_svc import job_rows, preference_rows
from context_svc import session_rows as rows
from context_svc.background_runs import BackgroundRuns
from context_svc.claims import Claim
from context_svc.item_rows import Selection, live
from context_svc.items import MEMORY_PREFIX, Author, Item, ItemWrite, Placement, Scope, Source
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Done, Later, Limits, Result, Then
from context_svc.known import Known
from context_svc.messages import Branch
from context_svc.preference_rows import Stored
from context_svc.runs import Material, Purpose
from context_svc.session_rows import Session
from context_svc.titles import WHILE_BUSY, WITHOUT_MONEY, background
from context_svc.turn_rows import USER, TurnState

KIND = "memory"
MOST_AT_ONCE = 5
MOST = 300
LONGEST = 300  # characters
_MESSAGES = 50
_AFTERWARDS_US = 120_000_000  # what a person says in one go is looked at once
_QUOTES = str.maketrans("\u2018\u2019", "''", '"\u201c\u201d\u201e\u00ab\u00bb*')
_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")


class Wanted(Protocol):
    """Reads a session's settings and its person's preferences, both serialised."""

    def __call__(self, settings: bytes, stored: Stored, /) -> bool:
        """Whether memories are proposed and used in the session."""


class StaysHere(Protocol):
    """Reads serialised messages and a session's settings."""

    def __call__(self, settings: bytes, messages: Sequence[bytes], /) -> bool:
        """Whether any of it must be processed on the machines of the mesh alone."""


class Words(Protocol):
    """Reads serialised messages."""

    def __call__(self, messages: Sequence[bytes], /) -> str:
        """All their text."""


class Put(Protocol):
    """Writes items for the model."""

    def __call__(self, scope: Scope, writes: Sequence[ItemWrite], now_us: int, /) -> Unit[Then]:
        """Part of a unit."""


class Memories:
    """The kind of job that proposes memories. `idle` says whether no turn runs here."""

    name = KIND
    limits = Limits(tries=2, seconds=180.0)

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        runs: BackgroundRuns,
        put: Put,
        idle: Callable[[], bool],
        wanted: Wanted,
        stays_here: StaysHere,
        words: Words,
    ) -> None:
        self._database = database
        self._clock = clock
        self._runs = runs
        self._put = put
        self._idle = idle
        self._wanted = wanted
        self._stays_here = stays_here
        self._words = words

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`. Raises SuggestionFailed and PeerUnavailable."""
        if not self._idle():
            return Later(WHILE_BUSY)
        material = await self._database.read(lambda: self._material(job))
        if material is None:
            return Done()
        answer = await self._runs.ask(material)
        if answer is None:
            return Later(WITHOUT_MONEY)
        said = self._words(material.branch.messages)
        lines = [line for line in proposals(answer.text) if spoken(line, said)]
        local = self._stays_here(material.settings, material.branch.messages)
        placement = Placement.LOCAL_ONLY if local else Placement.ANY
        return Done(lambda now_us: self._store(job, lines, placement, now_us)) if lines else Done()

    def _material(self, job: Job) -> Unit[Material | None]:
        session = yield from self._session(job)
        if session is None:
            return None
        said = yield Statement(
            "SELECT m.id, m.data FROM message m WHERE m.session_id = :session AND m.role = :person"
            " AND m.sequence >= (SELECT t.accepted_sequence FROM turn t WHERE t.id = :turn)"
            " ORDER BY m.sequence LIMIT :most",
            {"session": session.id, "person": USER, "turn": job.turn_id, "most": _MESSAGES},
        )
        if not said:
            return None
        now_us = self._clock.now_us()
        there = yield from live(Scope(account_id=job.account_id), Selection(prefix=MEMORY_PREFIX), now_us)
        stored = yield from preference_rows.find(job.account_id)
        return Material(
            claim=background(job, session.id, said[-1]["id"]),
            branch=Branch(messages=tuple(bytes(row["data"]) for row in said), earlier=0),
            settings=session.settings,
            time_us=now_us,
            purpose=Purpose.MEMORY,
            known=Known(stored=stored, items=tuple(there)),
        )

    def _session(self, job: Job) -> Unit[Session | None]:
        session = yield from rows.find(job.session_id or "", job.account_id)
        if session is None or session.sealed:
            return None
        stored = yield from preference_rows.find(job.account_id)
        return session if self._wanted(session.settings, stored) else None

    def _store(self, job: Job, lines: Sequence[str], placement: Placement, now_us: int) -> Unit[Then | None]:
        if (yield from self._session(job)) is None:
            return None
        scope = Scope(account_id=job.account_id)
        there = yield from live(scope, Selection(prefix=MEMORY_PREFIX), now_us)
        new = unknown(lines, there)[: max(0, MOST - len(there))]
        if not new:
            return None
        author = Author(source=Source.MODEL, turn_id=job.turn_id)
        writes = [
            ItemWrite(
                key=f"{MEMORY_PREFIX}{ids.uuid()}",
                value=json.dumps({"text": line}, ensure_ascii=False, separators=(",", ":")),
                author=author,
                placement=placement,
            )
            for line in new
        ]
        return (yield from self._put(scope, writes, now_us))


def schedule_memories(claim: Claim, state: TurnState, now_us: int) -> Unit[None]:
    """Part of the unit that ends a turn: look later for something worth remembering in what was said."""
    if state is TurnState.FINISHED:
        yield from job_rows.add(_job(claim, now_us), now_us)


def proposals(text: str) -> list[str]:
    """The memories that a model named, one a line, without the marks of a list; at most five."""
    lines = (" ".join(_MARK.sub("", line).split()) for line in text.splitlines())
    kept = [line for line in lines if line and line.strip(".").upper() != "NONE" and len(line) <= LONGEST]
    return list(dict.fromkeys(kept))[:MOST_AT_ONCE]


def spoken(line: str, said: str) -> bool:
    """Whether a line is what the person said, word for word, and no question."""
    return not line.endswith(("?", "\uff1f", "\u061f")) and _key(line) in _key(said)


def unknown(lines: Iterable[str], there: Iterable[Item]) -> list[str]:
    """The lines that no memory says already."""
    said = {_key(str(json.loads(item.value).get("text", ""))) for item in there}
    return [line for line in lines if _key(line) not in said]


def _key(text: str) -> str:
    """The text without what a copy may change: case, spaces, quotation marks, the end of the sentence."""
    return " ".join(text.translate(_QUOTES).casefold().split()).strip(" .!,;")


def _job(claim: Claim, now_us: int) -> NewJob:
    return NewJob(
        id=ids.uuid(),
        kind=KIND,
        subject=claim.session_id,
        account_id=claim.account_id,
        session_id=claim.session_id,
        turn_id=claim.turn_id,
        title="Look for something worth remembering",
        run_us=now_us + _AFTERWARDS_US,
        horizon_us=_AFTERWARDS_US,
    )
