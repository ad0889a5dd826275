"""PostgreSQL behind the seam: a pool, one writer whose batch is one transaction, lost races run again."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from chassis import failpoints
from chassis.clock import Clock, SystemClock
from chassis.database import ConstraintFailed, Database, DatabaseMetrics, Engine, Row, Statement, Unit, Value
from chassis.errors import StoreUnavailable
from chassis.hints import Touched
from chassis.migrations import Migration, bring_forward
from chassis.notices import Notices
from chassis.tasks import Tasks
from chassis.writer import Done, Failed, Outcome, UnitFactory, Writer

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

T = TypeVar("T")

ATTEMPTS = 5
_LOST_RACE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_STORE_FAULTS = (
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InternalServerError,
    OSError,
    TimeoutError,
)
_SESSION = {
    "statement_timeout": "5000",
    "idle_in_transaction_session_timeout": "10000",
    "lock_timeout": "3000",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
_ALONE_SECONDS = 600
_ALONE = (
    f"SET statement_timeout = 0; SET lock_timeout = '{_ALONE_SECONDS}s';"
    " SELECT pg_advisory_lock(hashtext('alone'), hashtext(current_schema()))"
)
_TOKENS = re.compile(
    r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|(?P<cast>::)|:(?P<name>[a-z_][a-z0-9_]*)", re.S
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A statement as PostgreSQL wants it: ``$1`` for names, and the names in that order."""

    sql: str
    names: tuple[str, ...]

    def values(self, arguments: Mapping[str, Value]) -> list[Value]:
        """The arguments in order. Raises KeyError for a name without a value."""
        return [arguments[name] for name in self.names]


@lru_cache(maxsize=2048)
def numbered(sql: str) -> Numbered:
    """Turn ``:name`` into ``$n``, outside of literals and comments. Raises ValueError for ``::``."""
    names: list[str] = []

    def place(found: re.Match[str]) -> str:
        name = found["name"]
        if found["cast"]:
            raise ValueError("write CAST(… AS …): `::` is PostgreSQL's alone")
        if name is None:
            return found[0]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return Numbered(_TOKENS.sub(place, sql), tuple(names))


class PostgresDatabase:
    """The `Database` of many machines."""

    engine: Engine = "postgres"

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], clock: Clock, dsn: str, schema: str) -> None:
        self._pool = pool
        self._clock = clock
        self.notices = Notices(dsn, schema, self._notify, clock)
        self.writer = Writer(self._commit, clock, touched=self.notices.touched)

    async def write(
        self, aggregate: str, unit: Callable[[], Unit[T]], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `Database.write`."""
        return await self.writer.submit(aggregate, unit, committed)

    async def read(self, unit: Callable[[], Unit[T]]) -> T:
        """See `Database.read`."""
        try:
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await _advance(connection, unit())
        except (*_STORE_FAULTS, *_LOST_RACE, asyncpg.InterfaceError) as error:
            if isinstance(error, asyncpg.DataError):  # an argument of the wrong type: a fault of ours
                raise
            raise StoreUnavailable(type(error).__name__) from error

    async def migrate(self, migrations: Sequence[Migration]) -> None:
        """See `Database.migrate`."""
        await bring_forward(self, migrations, self._clock)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """See `Database.alone`: a lock of one session, which the server takes back when the process dies."""
        try:
            connection = await self._pool.acquire()
        except (*_STORE_FAULTS, asyncpg.InterfaceError) as error:
            raise StoreUnavailable(type(error).__name__) from error
        try:
            try:
                await connection.execute(_ALONE, timeout=2 * _ALONE_SECONDS)
            except (*_STORE_FAULTS, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise StoreUnavailable(f"another process is starting: {type(error).__name__}") from error
            yield
        finally:
            await self._pool.release(connection)  # which resets the session: its lock and its limits

    async def scrub(self, *, whole: bool = False) -> None:
        """See `Database.scrub`."""

    @asynccontextmanager
    async def frozen(self, folder: Path) -> AsyncIterator[Database]:
        """See `Database.frozen`: each `read` is one state of the store already."""
        yield self

    async def copy_to(self, path: Path) -> None:
        """See `Database.copy_to`."""
        raise StoreUnavailable("PostgreSQL has no file to copy")

    def hints(self) -> AsyncIterator[Touched]:
        """See `Database.hints`."""
        return self.notices.hear()

    async def ready(self) -> None:
        """See `Database.ready`."""
        try:
            await self._pool.fetch("SELECT 1")
        except (*_STORE_FAULTS, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StoreUnavailable(type(error).__name__) from error

    def metrics(self) -> DatabaseMetrics:
        """See `Database.metrics`."""
        return self.writer.metrics()

    async def _notify(self, channel: str, payload: str) -> None:
        await self._pool.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def _commit(self, units: Sequence[UnitFactory]) -> Sequence[Outcome]:
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._attempt(units)
            except _LOST_RACE:
                await self._clock.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
        return await self._attempt(units)

    async def _attempt(self, units: Sequence[UnitFactory]) -> Sequence[Outcome]:
        async with self._pool.acquire() as connection, connection.transaction():
            outcomes = [await _savepoint(connection, unit) for unit in units]
            failpoints.reach("before_commit")
            return outcomes


@asynccontextmanager
async def connect(
    dsn: str, *, schema: str = "public", clock: Clock | None = None, size: int = 10
) -> AsyncIterator[PostgresDatabase]:
    """Open a pool whose statements see `schema` (made when missing), and close it when the block ends.

    What was queued is committed first. Raises StoreUnavailable when the server cannot be reached.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", schema):
        raise ValueError("a schema's name is lower-case letters, digits and _")
    pool = await _open(dsn, schema, size)
    database = PostgresDatabase(pool, clock or SystemClock(), dsn, schema)
    async with pool, Tasks() as tasks:
        tasks.spawn("tell other processes", database.notices.tell())
        loop = tasks.spawn("database writer", database.writer.run())
        try:
            yield database
        finally:
            database.writer.close()
            await loop


async def _open(dsn: str, schema: str, size: int) -> asyncpg.Pool[asyncpg.Record]:
    settings = {**_SESSION, "search_path": schema, "application_name": schema}
    try:
        pool = await asyncpg.create_pool(
            dsn, min_size=1, max_size=size, timeout=5, command_timeout=10, server_settings=settings
        )
        if not await pool.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema):
            # The lock: of two processes that make one schema at once, PostgreSQL lets the second fail.
            await pool.execute(
                "BEGIN; SELECT pg_advisory_xact_lock(hashtext('schema'));"
                f' CREATE SCHEMA IF NOT EXISTS "{schema}"; COMMIT'
            )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreUnavailable(f"cannot open PostgreSQL: {type(error).__name__}") from error
    return pool


async def _savepoint(connection: Connection, unit: UnitFactory) -> Outcome:
    try:
        async with connection.transaction():  # nested: a savepoint
            return Done(await _advance(connection, unit()))
    except _LOST_RACE:
        raise
    except Exception as error:
        if connection.is_closed():
            raise
        return Failed(StoreUnavailable(type(error).__name__) if isinstance(error, _STORE_FAULTS) else error)


async def _advance(connection: Connection, unit: Unit[T]) -> T:
    try:
        statement = next(unit)
        while True:
            statement = unit.send(await _execute(connection, statement))
    except StopIteration as end:
        value: T = end.value
        return value
    except asyncpg.IntegrityConstraintViolationError as error:
        raise ConstraintFailed(f"{error.constraint_name}: {type(error).__name__}") from error
    finally:
        unit.close()


async def _execute(connection: Connection, statement: Statement) -> Sequence[Row]:
    if statement.script:
        await connection.execute(statement.sql)
        return []
    prepared = numbered(statement.sql)
    return await connection.fetch(prepared.sql, *prepared.values(statement.arguments))
