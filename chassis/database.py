"""The one seam to a store. A unit of work is a generator: it yields statements, receives rows, never awaits.

One SQL text serves both engines: arguments by name (``:account``), ``CAST(… AS …)`` and never ``::``, times
as BIGINT microseconds. A unit that must know what it changed says ``RETURNING``. ::

    def rename(id: str, title: str) -> Unit[bool]:
        rows = yield Statement(
            "UPDATE note SET title = :title WHERE id = :id RETURNING id", {"id": id, "title": title}
        )
        return bool(rows)

    renamed = await database.write(note_id, lambda: rename(note_id, "Plan"))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from chassis.hints import Touched
    from chassis.migrations import Migration

T = TypeVar("T")
Engine = Literal["sqlite", "postgres"]
Value: TypeAlias = str | int | float | bytes | None


class Row(Protocol):
    """One row of an answer, by column name. A column's type is the schema's business: unchecked here."""

    def __getitem__(self, name: str, /) -> Any:
        """The value of the column. Raises IndexError or KeyError when there is none."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with its arguments by name. A `script` is several statements without arguments."""

    sql: str
    arguments: Mapping[str, Value] = field(default_factory=dict)
    script: bool = False


Unit: TypeAlias = Generator[Statement, Sequence[Row], T]


class ConstraintFailed(Exception):
    """A unit broke a constraint of the schema (unique, foreign key, check); nothing of it was kept."""


class DatabaseInUse(Exception):
    """Another process has the database file open: one process per file is the rule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseMetrics:
    """Counts since start, and the commits' time in seconds (all of them, the last, the longest)."""

    waiting: int
    batches: int
    units: int
    failed: int
    commit_seconds: float
    last_commit_seconds: float
    longest_commit_seconds: float


class Database(Protocol):
    """A store that runs units of work. Opened by `chassis.engines.connect`."""

    @property
    def engine(self) -> Engine:
        """For the few places where SQL differs, behind a port."""

    async def write(
        self, aggregate: str, unit: Callable[[], Unit[T]], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """Run a unit and return its result when it is durable.

        Units that wait together commit together, ordered by `aggregate`, within one aggregate as they came.
        A unit that raises is undone alone and its exception is raised here. `unit` is a factory because a
        transaction that lost a race is run again.

        `committed(result)` is called on the event loop once the result is durable: for all units of the
        process in the order they were committed, and before any waiter of that batch is resumed. It
        must not raise. A waiter that is cancelled after its batch has begun leaves the unit committed.

        Raises StoreUnavailable (the queue is full, the store fails) and ConstraintFailed.
        """

    async def read(self, unit: Callable[[], Unit[T]]) -> T:
        """Run a unit that changes nothing, over one consistent state that holds only committed work."""

    async def migrate(self, migrations: Sequence[Migration]) -> None:
        """Bring the schema forward, each migration in its own transaction. Raises MigrationRefused."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Within the block no other process of this store is in such a block. Raises StoreUnavailable.

        For what a start does to the whole store. One that comes waits ten minutes at most.
        """

    async def scrub(self, *, whole: bool = False) -> None:
        """Return when nothing that was deleted before is left in the store's files, as far as it has files.

        SQLite moves rows between pages and may leave copies of them behind, so its file is written anew: one of more
        than 64 MiB, which takes seconds in which nothing else is served, with `whole` alone. On PostgreSQL that is
        the server's business (a dump never holds it): nothing happens. Raises StoreUnavailable.
        """

    def hints(self) -> AsyncIterator[Touched]:
        """What other processes may have changed, from now on. Ends at once where there can be none."""

    def frozen(self, folder: Path) -> AbstractAsyncContextManager[Database]:
        """The store as it is now, to be read at length without anybody having to wait for it.

        Where that takes a copy it is made in `folder`, and is gone afterwards. Raises StoreUnavailable.
        """

    async def copy_to(self, path: Path) -> None:
        """Copy the store as it is now into a new file of mode 0600. Raises StoreUnavailable, also without files."""

    async def ready(self) -> None:
        """Return when the store answers; raises StoreUnavailable when it does not."""

    def metrics(self) -> DatabaseMetrics:
        """What the writer has done so far."""
