"""SQLite behind the seam: one connection per process, whole batches in its thread, every commit on the disk.

aiosqlite gives the thread; its connection is extended by two calls that run units there. Nothing else touches
the connection, because on one connection a second coroutine would read what is not committed yet.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from chassis import failpoints, ids
from chassis.clock import Clock, SystemClock
from chassis.database import ConstraintFailed, Database, DatabaseInUse, DatabaseMetrics, Engine, Unit
from chassis.errors import StoreUnavailable
from chassis.hints import Touched
from chassis.migrations import Migration, bring_forward
from chassis.tasks import Tasks
from chassis.writer import Done, Failed, Outcome, Reads, UnitFactory, Writer

T = TypeVar("T")

PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "journal_size_limit = 67108864",
    "wal_autocheckpoint = 1000",
    "temp_store = MEMORY",  # a file written anew would leave a copy of all in a temporary one
)
QUICKLY_WRITTEN = 64 * 1024 * 1024  # bytes of a file that is written anew in a third of a second
_STORE_FAULTS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
    }
)


class UnitConnection(aiosqlite.Connection):
    """aiosqlite's connection, which also runs units of work in the database thread."""

    stopped: asyncio.Future[Any] | None = None

    async def commit_batch(self, units: Sequence[UnitFactory]) -> Sequence[Outcome]:
        """Run all units in one transaction, each in a savepoint. Raises when the batch was not kept."""
        outcomes: Sequence[Outcome] = await self._execute(_commit_batch, self._live(), units)  # type: ignore[no-untyped-call]
        return outcomes

    async def read_batch(self, units: Sequence[UnitFactory]) -> Sequence[Outcome]:
        """Run units between batches of writes, unable to write."""
        outcomes: Sequence[Outcome] = await self._execute(_read_batch, self._live(), units)  # type: ignore[no-untyped-call]
        return outcomes

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread. The future is kept: one that failed to open stops without waiting for it."""
        self.stopped = super().stop()
        return self.stopped

    def _live(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnavailable("the database is closed")
        return self._connection


class SqliteDatabase:
    """The `Database` of one machine."""

    engine: Engine = "sqlite"

    def __init__(self, connection: UnitConnection, writer: Writer, reads: Reads, clock: Clock) -> None:
        self._connection = connection
        self._writer = writer
        self._reads = reads
        self._clock = clock

    async def write(
        self, aggregate: str, unit: Callable[[], Unit[T]], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `Database.write`."""
        return await self._writer.submit(aggregate, unit, committed)

    async def read(self, unit: Callable[[], Unit[T]]) -> T:
        """See `Database.read`."""
        return await self._reads.submit(unit)

    async def migrate(self, migrations: Sequence[Migration]) -> None:
        """See `Database.migrate`."""
        await bring_forward(self, migrations, self._clock)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """See `Database.alone`: the file is one process's anyway."""
        yield

    async def scrub(self, *, whole: bool = False) -> None:
        """See `Database.scrub`: deleted rows are overwritten at once, copies of moved ones and old pages stay."""
        try:
            if whole or await self._size() <= QUICKLY_WRITTEN:
                await self._connection.execute_fetchall("VACUUM")
            rows = await self._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnavailable(str(error)) from error
        if next(iter(rows))[0]:
            raise StoreUnavailable("the write-ahead log is in use")

    async def _size(self) -> int:
        """Bytes of the file."""
        rows = await self._connection.execute_fetchall(
            "SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()"
        )
        size: int = next(iter(rows))["bytes"]
        return size

    @asynccontextmanager
    async def frozen(self, folder: Path) -> AsyncIterator[Database]:
        """See `Database.frozen`: a copy, for which the database's thread stops once."""
        path = folder / f"{ids.uuid()}.db"
        try:
            await self.copy_to(path)
            async with connect(path, clock=self._clock) as copy:
                yield copy
        finally:
            for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")):
                each.unlink(missing_ok=True)

    async def copy_to(self, path: Path) -> None:
        """See `Database.copy_to`."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        target = sqlite3.connect(path, check_same_thread=False)
        try:
            await self._connection.backup(target)
            target.execute("PRAGMA journal_mode = DELETE").fetchall()
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnavailable(f"the copy failed: {error}") from error
        finally:
            target.close()

    async def hints(self) -> AsyncIterator[Touched]:
        """See `Database.hints`: one process has the file."""
        return
        yield

    async def ready(self) -> None:
        """See `Database.ready`."""
        try:
            await self._connection.execute_fetchall("SELECT 1")
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnavailable(str(error)) from error

    def metrics(self) -> DatabaseMetrics:
        """See `Database.metrics`."""
        return self._writer.metrics()


@asynccontextmanager
async def connect(
    path: Path, *, clock: Clock | None = None, busy: timedelta = timedelta(seconds=5)
) -> AsyncIterator[SqliteDatabase]:
    """Open the file (made with mode 0600) for this process alone, and close it when the block ends.

    What was queued is committed first. Raises DatabaseInUse after waiting `busy` for another process, and
    StoreUnavailable when the file cannot be opened or fails its check.
    """
    clock = clock or SystemClock()
    connection = UnitConnection(lambda: _open(path, busy), iter_chunk_size=64)
    async with _opened(connection), Tasks() as tasks:
        writer = Writer(connection.commit_batch, clock)
        loop = tasks.spawn("database writer", writer.run())
        reads = Reads(connection.read_batch, tasks)
        try:
            yield SqliteDatabase(connection, writer, reads, clock)
        finally:
            reads.close()
            writer.close()
            await loop


@asynccontextmanager
async def _opened(connection: UnitConnection) -> AsyncIterator[None]:
    try:
        await connection
    except BaseException:
        if connection.stopped is not None:
            await connection.stopped
        raise
    try:
        yield
    finally:
        await connection.close()


def _open(path: Path, busy: timedelta) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=busy.total_seconds(), cached_statements=512
    )
    connection.row_factory = sqlite3.Row
    try:
        _prepare(connection)
    except sqlite3.Error as error:
        connection.close()
        if _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DatabaseInUse(f"{path} is open in another process") from error
        raise StoreUnavailable(f"{path}: {error}") from error
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("BEGIN IMMEDIATE")  # takes the exclusive lock now, not at the first write
    connection.execute("COMMIT")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"quick_check: {verdict}")


def _commit_batch(connection: sqlite3.Connection, units: Sequence[UnitFactory]) -> list[Outcome]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_savepoint(connection, unit) for unit in units]
        failpoints.reach("before_commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _savepoint(connection: sqlite3.Connection, unit: UnitFactory) -> Outcome:
    connection.execute("SAVEPOINT unit")
    try:
        value = _advance(connection, unit())
    except Exception as error:
        if not connection.in_transaction:  # SQLite gave up the whole transaction: disk full, I/O error
            raise
        connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")
        return Failed(error)
    connection.execute("RELEASE unit")
    return Done(value)


def _read_batch(connection: sqlite3.Connection, units: Sequence[UnitFactory]) -> list[Outcome]:
    connection.execute("PRAGMA query_only = ON")
    try:
        return [_read(connection, unit) for unit in units]
    finally:
        connection.execute("PRAGMA query_only = OFF")


def _read(connection: sqlite3.Connection, unit: UnitFactory) -> Outcome:
    try:
        return Done(_advance(connection, unit()))
    except Exception as error:  # noqa: BLE001 - it is raised again where the unit was submitted
        return Failed(error)


def _advance(connection: sqlite3.Connection, unit: Unit[T]) -> T:
    try:
        statement = next(unit)
        while True:
            if statement.script:
                rows = _script(connection, statement.sql)
            else:
                rows = connection.execute(statement.sql, statement.arguments).fetchall()
            statement = unit.send(rows)
    except StopIteration as end:
        value: T = end.value
        return value
    except sqlite3.IntegrityError as error:
        raise ConstraintFailed(str(error)) from error
    except sqlite3.Error as error:
        if _primary(error) in _STORE_FAULTS:
            raise StoreUnavailable(str(error)) from error
        raise
    finally:
        unit.close()


def _script(connection: sqlite3.Connection, sql: str) -> list[Any]:
    """Run each statement; `executescript` would commit the transaction around it."""
    statement = ""
    for piece in sql.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    return []


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
