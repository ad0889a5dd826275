"""An archive on its way in: announced, received in chunks that may be sent again, then applied by a job.

::

    create ──► RECEIVING ──append──► APPLYING ──job──► FINISHED     kept for 7 days after its end
                   └──── wrong digest ───┴── refused ─► FAILED       nothing of it stays
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from chassis import ids
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from context_svc import job_rows
from context_svc.deletions import is_ending
from context_svc.errors import (
    AccountNotFound,
    IdempotencyKeyReused,
    ImportNotFound,
    MediaDigestMismatch,
    OffsetMismatch,
    QuotaExceeded,
)
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Done, Later, Limits, Result

APPLY, FORGET = "apply import", "forget import"
KEPT_US = round(timedelta(days=7).total_seconds() * 1e6)
MOST_OPEN = 3
_RECEIVING_US = round(timedelta(hours=24).total_seconds() * 1e6)
_PAGE = 16  # chunks that are read at once


class ImportState(IntEnum):
    """Where an import stands. The numbers are the contract's, and are stored."""

    RECEIVING = 1
    APPLYING = 2
    FINISHED = 3
    FAILED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Announced:
    """What a client will send."""

    request_id: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountImport:
    """An import. `applied` of `steps` are done; times are microseconds since 1970."""

    id: str
    account: str
    announced: Announced
    received: int
    state: ImportState
    steps: int
    applied: int
    added: Mapping[str, int]
    present: Mapping[str, int]
    failure: str
    failure_message: str
    create_us: int
    expire_us: int


class Imports:
    """Imports of the calling person. Another person's is not found."""

    def __init__(self, database: Database, clock: Clock, *, limit: int) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit

    async def create(self, user: User, announced: Announced) -> AccountImport:
        """Begin an import, or find the one of the same request. Raises QuotaExceeded and IdempotencyKeyReused."""
        if announced.size > self._limit:
            raise QuotaExceeded(quota="bytes of an import", metadata={"limit": str(self._limit)})
        fresh, now_us = ids.uuid(), self._clock.now_us()
        return await self._database.write(
            user.account, lambda: _create(user.account, fresh, announced, now_us)
        )

    async def get(self, user: User, import_id: str) -> AccountImport:
        """How far an import is. Raises ImportNotFound."""
        now_us = self._clock.now_us()
        return await self._database.read(lambda: find(user.account, import_id, now_us))

    async def write(self, user: User, import_id: str, offset: int, chunk: bytes) -> AccountImport:
        """Add a chunk; on return it is durable. The last one is answered when the digest was checked.

        Raises ImportNotFound, OffsetMismatch and MediaDigestMismatch.
        """
        now_us = self._clock.now_us()
        arrived = await self._database.write(
            user.account, lambda: _append(user.account, import_id, offset, chunk, now_us)
        )
        if arrived.received < arrived.announced.size or arrived.state is not ImportState.RECEIVING:
            return arrived
        return await self._complete(arrived)

    async def receive(self, user: User, announced: Announced, chunks: AsyncIterator[bytes]) -> AccountImport:
        """Take a whole stream; one that is cut goes on from its beginning or in chunks.

        Raises as `create` and `write` do.
        """
        arriving, sent = await self.create(user, announced), 0
        async for chunk in chunks:
            if arriving.state is ImportState.RECEIVING:
                arriving = await self.write(user, arriving.id, sent, chunk)
            sent += len(chunk)
            if sent > announced.size:
                break
        if sent != announced.size:
            raise MediaDigestMismatch("another size than announced")
        return arriving

    async def _complete(self, arrived: AccountImport) -> AccountImport:
        digest = hashlib.sha256()
        async for chunk in chunks_of(self._database, arrived.id):
            digest.update(chunk)
        now_us = self._clock.now_us()
        if digest.hexdigest() != arrived.announced.sha256:
            error = MediaDigestMismatch()
            await self._database.write(
                arrived.account, lambda: fail(arrived.id, error.reason, error.message, now_us)
            )
            raise error
        return await self._database.write(arrived.account, lambda: _begin(arrived, now_us))


class ForgetImport:
    """The kind of job that forgets an import when its time is over."""

    name = FORGET
    limits = Limits(tries=0, seconds=60.0)

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        now_us = self._clock.now_us()
        left_us = await self._database.write(job.subject, lambda: _forget(job.subject, now_us))
        if left_us:
            return Later(left_us / 1e6)
        await self._database.scrub()
        return Done()


async def chunks_of(database: Database, import_id: str) -> AsyncIterator[bytes]:
    """All bytes that arrived, in order."""
    after = -1
    while rows := await database.read(lambda after=after: _chunks(import_id, after)):  # type: ignore[misc]
        for row in rows:
            yield bytes(row["data"])
        after = rows[-1]["position"]


def find(account: str, import_id: str, now_us: int) -> Unit[AccountImport]:
    """One import of this person. Raises ImportNotFound."""
    rows = yield Statement(
        "SELECT * FROM account_import WHERE id = :id AND account_id = :account AND expire_us > :now",
        {"id": import_id, "account": account, "now": now_us},
    )
    if not rows:
        raise ImportNotFound
    return _from_row(rows[0])


def applying(import_id: str) -> Unit[AccountImport | None]:
    """The import that a job is to apply; None when there is nothing to do any more."""
    rows = yield Statement(
        "SELECT * FROM account_import WHERE id = :id AND state = :state",
        {"id": import_id, "state": ImportState.APPLYING},
    )
    if not rows or (yield from is_ending(rows[0]["account_id"])):
        return None
    return _from_row(rows[0])


def hold(import_id: str) -> Unit[None]:
    """Part of a unit, its first step: keep the import's row. Raises ImportNotFound once it is gone."""
    rows = yield Statement(
        "UPDATE account_import SET applied = applied WHERE id = :id RETURNING id", {"id": import_id}
    )
    if not rows:
        raise ImportNotFound


def progress(
    import_id: str, *, steps: int, applied: int, added: Mapping[str, int], present: Mapping[str, int]
) -> Unit[None]:
    """Part of a unit: so many steps are done, with these figures."""
    yield Statement(
        "UPDATE account_import SET steps = :steps, applied = :applied, added = :added, present = :present"
        " WHERE id = :id",
        {
            "id": import_id,
            "steps": steps,
            "applied": applied,
            "added": json.dumps(dict(added)),
            "present": json.dumps(dict(present)),
        },
    )


def finish(import_id: str, now_us: int) -> Unit[None]:
    """Part of a unit: everything is applied; the bytes go."""
    yield from _end(import_id, ImportState.FINISHED, "", "", now_us)


def fail(import_id: str, reason: str, message: str, now_us: int) -> Unit[None]:
    """Part of a unit: it cannot be applied; the bytes go."""
    yield from _end(import_id, ImportState.FAILED, reason, message, now_us)


def _end(import_id: str, state: ImportState, reason: str, message: str, now_us: int) -> Unit[None]:
    yield Statement("DELETE FROM import_chunk WHERE import_id = :id", {"id": import_id})
    yield Statement(
        "UPDATE account_import SET state = :state, failure = :reason, failure_message = :message,"
        " expire_us = :expire WHERE id = :id",
        {
            "id": import_id,
            "state": state,
            "reason": reason,
            "message": message,
            "expire": now_us + KEPT_US,
        },
    )


def _create(account: str, fresh: str, announced: Announced, now_us: int) -> Unit[AccountImport]:
    held = yield Statement(
        "UPDATE account SET version = version WHERE id = :id RETURNING id", {"id": account}
    )
    if not held or (yield from is_ending(account)):
        raise AccountNotFound
    rows = yield Statement(
        "SELECT * FROM account_import WHERE account_id = :account AND request_id = :request",
        {"account": account, "request": announced.request_id},
    )
    if rows:
        known = _from_row(rows[0])
        if known.announced != announced:
            raise IdempotencyKeyReused
        return known
    open_now = yield Statement(
        "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM account_import WHERE account_id = :account AND state < 3",
        {"account": account},
    )
    if open_now[0]["n"] >= MOST_OPEN:
        raise QuotaExceeded(quota="imports at a time")
    made = yield Statement(
        "INSERT INTO account_import (id, account_id, request_id, size, sha256, received, state, create_us,"
        " expire_us) VALUES (:id, :account, :request, :size, :sha256, 0, :state, :now, :expire) RETURNING *",
        {
            "id": fresh,
            "account": account,
            "request": announced.request_id,
            "size": announced.size,
            "sha256": announced.sha256,
            "state": ImportState.RECEIVING,
            "now": now_us,
            "expire": now_us + _RECEIVING_US,
        },
    )
    job = NewJob(id=ids.uuid(), kind=FORGET, subject=fresh, run_us=now_us + _RECEIVING_US)
    yield from job_rows.add(job, now_us)
    return _from_row(made[0])


def _append(account: str, import_id: str, offset: int, chunk: bytes, now_us: int) -> Unit[AccountImport]:
    yield Statement(
        "UPDATE account_import SET received = received WHERE id = :id AND account_id = :account",
        {"id": import_id, "account": account},
    )
    arriving = yield from find(account, import_id, now_us)
    received = arriving.received
    if arriving.state is not ImportState.RECEIVING or offset + len(chunk) <= received:
        return arriving
    if offset > received or offset + len(chunk) > arriving.announced.size:
        raise OffsetMismatch(metadata={"offset": str(received)})
    yield Statement(
        "INSERT INTO import_chunk (import_id, position, data) VALUES (:id, :position, :data)",
        {"id": import_id, "position": received, "data": chunk[received - offset :]},
    )
    rows = yield Statement(
        "UPDATE account_import SET received = :received WHERE id = :id RETURNING *",
        {"id": import_id, "received": offset + len(chunk)},
    )
    return _from_row(rows[0])


def _begin(arrived: AccountImport, now_us: int) -> Unit[AccountImport]:
    """The bytes are whole: let a job apply them, once."""
    yield Statement(
        "UPDATE account_import SET state = :applying, expire_us = :expire WHERE id = :id AND state = :receiving",
        {
            "id": arrived.id,
            "applying": ImportState.APPLYING,
            "receiving": ImportState.RECEIVING,
            "expire": now_us + KEPT_US,
        },
    )
    job = NewJob(id=ids.uuid(), kind=APPLY, subject=arrived.id, run_us=now_us, horizon_us=1)
    yield from job_rows.add(job, now_us)
    return (yield from find(arrived.account, arrived.id, now_us))


def _forget(import_id: str, now_us: int) -> Unit[int]:
    """Forget an import whose time is over; else how long it still has, in microseconds."""
    rows = yield Statement("SELECT expire_us FROM account_import WHERE id = :id", {"id": import_id})
    if rows and rows[0]["expire_us"] > now_us:
        left: int = rows[0]["expire_us"] - now_us
        return left
    yield Statement("DELETE FROM account_import WHERE id = :id", {"id": import_id})
    return 0


def _chunks(import_id: str, after: int) -> Unit[list[Row]]:
    rows = yield Statement(
        "SELECT position, data FROM import_chunk WHERE import_id = :id AND position > :after"
        " ORDER BY position LIMIT :limit",
        {"id": import_id, "after": after, "limit": _PAGE},
    )
    return list(rows)


def _from_row(row: Row) -> AccountImport:
    return AccountImport(
        id=row["id"],
        account=row["account_id"],
        announced=Announced(request_id=row["request_id"], size=row["size"], sha256=row["sha256"]),
        received=row["received"],
        state=ImportState(row["state"]),
        steps=row["steps"],
        applied=row["applied"],
        added=json.loads(row["added"]),
        present=json.loads(row["present"]),
        failure=row["failure"],
        failure_message=row["failure_message"],
        create_us=row["create_us"],
        expire_us=row["expire_us"],
    )
