"""What an action leaves behind: context items for later turns, and other actions to run later, as jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chassis import ids
from chassis.database import Statement, Unit
from context_svc import job_rows
from context_svc.claims import Claim
from context_svc.errors import ContextSourceForbidden, QuotaExceeded
from context_svc.items import DEVICE_PREFIX, MEMORY_PREFIX, Author, ItemWrite, Scope, Source
from context_svc.job_rows import NewJob
from context_svc.jobs import Then

KIND = "action"
MOST_JOBS = 100  # open ones that actions of a person left behind
DEEPEST = 3  # work that work left behind that work left behind
TRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A context item to set. `value` is compact JSON; no time to live: as long as its scope."""

    key: str
    value: str
    ttl_us: int | None = None
    user_scope: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Another action to run later. `arguments` is a JSON object."""

    action: str
    arguments: str
    title: str
    delay_us: int
    tries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """All that one call left behind."""

    updates: tuple[Update, ...] = ()
    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What became of it."""

    context_keys: tuple[str, ...] = ()
    job_ids: tuple[str, ...] = ()
    thens: tuple[Then | None, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The payload of a job of this kind: what to run, how often it was tried, and in which turn now."""

    action: str
    arguments: str
    tries: int = TRIES
    depth: int = 1
    tried: int = 0
    turn_id: str = ""

    def payload(self) -> bytes:
        """Its stored form."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @staticmethod
    def of(payload: bytes) -> Work:
        """The stored form, read."""
        return Work(**json.loads(payload))


class Put(Protocol):
    """Writes items for a tool."""

    def __call__(self, scope: Scope, writes: Sequence[ItemWrite], now_us: int, /) -> Unit[Then]:
        """Part of a unit that holds the session's row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leavings:
    """Keeps what actions leave behind."""

    put: Put
    most_jobs: int = field(default=MOST_JOBS)

    def store(self, claim: Claim, action: str, left: Left, now_us: int) -> Unit[Stored]:
        """Part of a unit that holds the turn and its session.

        Raises ContextSourceForbidden (what a person, a device or the model wrote, and their keys) and QuotaExceeded.
        """
        thens: list[Then | None] = []
        for user_scope in (True, False):
            chosen = [each for each in left.updates if each.user_scope is user_scope]
            if chosen:
                scope = Scope(account_id=claim.account_id, session_id="" if user_scope else claim.session_id)
                thens.append((yield from self.put(scope, writes(claim, action, chosen), now_us)))
        jobs = []
        if left.tasks:
            depth = 1 + (yield from self._depth(claim, len(left.tasks)))
            for task in left.tasks:
                jobs.append((yield from _schedule(claim, task, depth, now_us)))
        return Stored(
            context_keys=tuple(each.key for each in left.updates), job_ids=tuple(jobs), thens=tuple(thens)
        )

    def _depth(self, claim: Claim, more: int) -> Unit[int]:
        open_jobs = yield Statement(
            "SELECT count(*) AS n FROM job WHERE account_id = :account AND kind = :kind AND state < 3",
            {"account": claim.account_id, "kind": KIND},
        )
        if open_jobs[0]["n"] + more > self.most_jobs:
            raise QuotaExceeded(quota="open jobs of actions")
        if not claim.job_id:
            return 0
        rows = yield Statement("SELECT payload FROM job WHERE id = :id", {"id": claim.job_id})
        depth = Work.of(bytes(rows[0]["payload"])).depth if rows else DEEPEST
        if depth >= DEEPEST:
            raise QuotaExceeded(quota="jobs that jobs leave behind")
        return depth


def writes(claim: Claim, action: str, updates: Sequence[Update]) -> list[ItemWrite]:
    """The updates as writes of a tool. Raises ContextSourceForbidden for keys that no tool has."""
    if any(each.key.startswith((DEVICE_PREFIX, MEMORY_PREFIX)) for each in updates):
        raise ContextSourceForbidden
    author = Author(source=Source.TOOL, turn_id=claim.turn_id, action=action)
    return [ItemWrite(key=each.key, value=each.value, author=author, ttl_us=each.ttl_us) for each in updates]


def _schedule(claim: Claim, task: Task, depth: int, now_us: int) -> Unit[str]:
    work = Work(action=task.action, arguments=task.arguments, tries=task.tries or TRIES, depth=depth)
    job = NewJob(
        id=ids.uuid(),
        kind=KIND,
        subject=ids.uuid(),
        account_id=claim.account_id,
        session_id=claim.session_id,
        turn_id=claim.turn_id,
        title=task.title or task.action,
        payload=work.payload(),
        run_us=now_us + task.delay_us,
        horizon_us=task.delay_us,
    )
    yield from job_rows.add(job, now_us)
    return job.id
