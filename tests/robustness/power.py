"""A disk whose power can be cut: SQLite's writes and syncs are logged, and any moment can be looked at again.

What was synced is there. Of what was written since, any part may be: none, some of it, the last block torn.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import apsw

from chassis import sqlite
from chassis.clock import Clock, SystemClock
from chassis.database import Database, DatabaseMetrics, Engine, Row, Unit
from chassis.hints import Touched
from chassis.migrations import Migration, bring_forward
from chassis.tasks import Tasks
from chassis.writer import Done, Outcome, UnitFactory, Writer

T = TypeVar("T")
SECTOR = 512
Operation: TypeAlias = tuple[Literal["write", "truncate", "sync", "delete"], str, int, bytes]


@dataclass(slots=True)
class Disk:
    """Every operation on every file, in order."""

    operations: list[Operation] = field(default_factory=list)

    def note(
        self,
        kind: Literal["write", "truncate", "sync", "delete"],
        path: str,
        number: int = 0,
        data: bytes = b"",
    ) -> None:
        """One more."""
        self.operations.append((kind, Path(path).name, number, data))

    def now(self) -> int:
        """How many operations there were."""
        return len(self.operations)


class _RecordedFile(apsw.VFSFile):
    def __init__(self, name: object, flags: list[int], disk: Disk) -> None:
        super().__init__("", name, flags)  # type: ignore[arg-type]
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.note("write", self._name, offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._disk.note("truncate", self._name, size)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.note("sync", self._name)


class RecordingVfs(apsw.VFS):
    """SQLite's own file system, watched by a Disk."""

    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self.name = name
        self._disk = disk

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:
        return _RecordedFile(name, flags, self._disk)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._disk.note("delete", filename)


class _Connection:
    """apsw's connection with the few words of sqlite3's that the product's driver uses."""

    def __init__(self, path: Path, vfs: str) -> None:
        self._inner = apsw.Connection(str(path), vfs=vfs)

    def execute(self, sql: str, arguments: object = None) -> apsw.Cursor:
        return self._inner.execute(sql, arguments)  # type: ignore[arg-type]

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction

    def by_name(self) -> None:
        """Rows are read by column from here on."""
        self._inner.row_trace = lambda cursor, row: dict(
            zip((name for name, *_ in cursor.get_description()), row, strict=True)
        )

    def close(self) -> None:
        self._inner.close()


class RecordedDatabase:
    """The product's SQLite driver (its pragmas, batches, savepoints and writer) on a recorded disk."""

    engine: Engine = "sqlite"

    def __init__(self, path: Path, disk: Disk, *, synchronous: str = "FULL") -> None:
        self._vfs = RecordingVfs(f"power-{id(disk)}", disk)
        self._connection = _Connection(path, self._vfs.name)
        for pragma in sqlite.PRAGMAS:
            said = f"synchronous = {synchronous}" if pragma.startswith("synchronous") else pragma
            self._connection.execute(f"PRAGMA {said}").fetchall()
        self._connection.by_name()
        self._clock: Clock = SystemClock()
        self.writer = Writer(self._commit, self._clock)

    async def run(self, tasks: Tasks) -> None:
        tasks.spawn("database writer", self.writer.run())

    async def write(
        self, aggregate: str, unit: Callable[[], Unit[T]], *, committed: Callable[[T], None] | None = None
    ) -> T:
        return await self.writer.submit(aggregate, unit, committed)

    async def read(self, unit: Callable[[], Unit[T]]) -> T:
        (outcome,) = sqlite._read_batch(self._connection, [unit])  # type: ignore[arg-type]
        if isinstance(outcome, Done):
            value: T = outcome.value
            return value
        raise outcome.error

    async def migrate(self, migrations: Sequence[Migration]) -> None:
        await bring_forward(self, migrations, self._clock)

    async def scrub(self, *, whole: bool = False) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def alone(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def frozen(self, folder: Path) -> AbstractAsyncContextManager[Database]:
        raise NotImplementedError

    async def copy_to(self, path: Path) -> None:
        raise NotImplementedError

    async def hints(self) -> AsyncIterator[Touched]:
        return
        yield

    async def ready(self) -> None:
        return

    def metrics(self) -> DatabaseMetrics:
        return self.writer.metrics()

    def close(self) -> None:
        self._connection.close()
        self._vfs.unregister()

    async def _commit(self, units: Sequence[UnitFactory]) -> Sequence[Outcome]:
        return sqlite._commit_batch(self._connection, units)  # type: ignore[arg-type]


_: type[Database] = RecordedDatabase


@dataclass(slots=True)
class _File:
    """A file at one moment: what is surely there, and what may be."""

    synced: bytearray = field(default_factory=bytearray)
    waiting: list[Operation] = field(default_factory=list)


class Moments:
    """The disk after each of its operations, as a power cut there may leave it."""

    def __init__(self, disk: Disk) -> None:
        self._operations = disk.operations
        self._files: dict[str, _File] = {}
        self._at = 0

    def advance(self, to: int) -> None:
        """Go on to the moment after `to` operations."""
        for operation in self._operations[self._at : to]:
            self._take(operation)
        self._at = to

    def images(self, chance: random.Random, *, variants: int) -> Iterator[dict[str, bytes]]:
        """First with nothing of what waits, then with all of it, then with parts and a torn last block."""
        yield {name: bytes(file.synced) for name, file in self._files.items()}
        if not any(file.waiting for file in self._files.values()):
            return
        yield {name: _applied(file, file.waiting) for name, file in self._files.items()}
        for _ in range(variants):
            yield {name: _some(file, chance) for name, file in self._files.items()}

    def _take(self, operation: Operation) -> None:
        kind, name, _number, _data = operation
        if kind == "delete":
            self._files.pop(name, None)
            return
        file = self._files.setdefault(name, _File())
        if kind == "sync":
            for waiting in file.waiting:
                _apply(file.synced, waiting)
            file.waiting.clear()
        else:
            file.waiting.append(operation)


def _applied(file: _File, operations: Sequence[Operation]) -> bytes:
    content = bytearray(file.synced)
    for operation in operations:
        _apply(content, operation)
    return bytes(content)


def _some(file: _File, chance: random.Random) -> bytes:
    kept = [
        each for each in file.waiting if each[0] == "truncate" or chance.random() < 0.5
    ]  # a file system orders its own sizes
    if kept and kept[-1][0] == "write" and len(kept[-1][3]) > SECTOR:
        kind, name, offset, data = kept[-1]
        kept[-1] = (kind, name, offset, data[: len(data) - SECTOR] + chance.randbytes(SECTOR))
    return _applied(file, kept)


def _apply(content: bytearray, operation: Operation) -> None:
    kind, _, number, data = operation
    if kind == "truncate":
        del content[number:]
        return
    if len(content) < number:
        content.extend(bytes(number - len(content)))
    content[number : number + len(data)] = data


def left_by(image: dict[str, bytes], folder: Path) -> Path:
    """Write an image into an empty folder; the database's path."""
    for name, content in image.items():
        (folder / name).write_bytes(content)
    return folder / "t.db"


def rows(path: Path, sql: str) -> list[Row]:
    """Open what a power cut left as the product opens it, and read it."""
    connection = sqlite._open(path, timedelta(seconds=1))
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
