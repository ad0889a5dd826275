"""Schema changes: numbered, forward only, each in its own transaction, remembered with a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from chassis import failpoints
from chassis.clock import Clock
from chassis.database import Engine, Statement, Unit

if TYPE_CHECKING:
    from chassis.database import Database

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
  version BIGINT PRIMARY KEY,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL,
  applied_us BIGINT NOT NULL
)"""
_POSTGRES_LOCK = """
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '60s';
SELECT pg_advisory_xact_lock(hashtext('schema_migration'), hashtext(current_schema()))"""


class MigrationRefused(Exception):
    """The database is newer than this program, or a migration was edited after it was applied."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """One step of the schema. `sql` is a script per engine, or one for ``"all"``."""

    version: int
    name: str
    sql: Mapping[Engine | Literal["all"], str]

    def script(self, engine: Engine) -> str:
        """The SQL for one engine. Raises KeyError when it has none."""
        return self.sql[engine] if engine in self.sql else self.sql["all"]

    def checksum(self, engine: Engine) -> str:
        """SHA-256 of the engine's script."""
        return hashlib.sha256(self.script(engine).encode()).hexdigest()


async def bring_forward(database: Database, migrations: Sequence[Migration], clock: Clock) -> None:
    """Apply what is missing, in order. Two processes that start together apply each step once."""
    versions = [migration.version for migration in migrations]
    if versions != sorted(set(versions)):
        raise ValueError("migrations must have rising versions")
    await database.write("schema", lambda: _check_known(database.engine, frozenset(versions)))
    for migration in migrations:
        await database.write("schema", partial(_apply, database.engine, migration, clock.now_us()))


def _open_ledger(engine: Engine) -> Unit[None]:
    if engine == "postgres":
        yield Statement(_POSTGRES_LOCK, script=True)
    yield Statement(_TABLE)


def _check_known(engine: Engine, known: frozenset[int]) -> Unit[None]:
    yield from _open_ledger(engine)
    rows = yield Statement("SELECT version FROM schema_migration ORDER BY version")
    unknown = [row["version"] for row in rows if row["version"] not in known]
    if unknown:
        raise MigrationRefused(f"the database has versions this program does not know: {unknown}")


def _apply(engine: Engine, step: Migration, now_us: int) -> Unit[None]:
    yield from _open_ledger(engine)
    rows = yield Statement(
        "SELECT checksum FROM schema_migration WHERE version = :version", {"version": step.version}
    )
    if rows:
        if rows[0]["checksum"] != step.checksum(engine):
            raise MigrationRefused(f"migration {step.version} {step.name} was changed after it was applied")
        return
    yield Statement(step.script(engine), script=True)
    failpoints.reach("mid_migration_step")
    yield Statement(
        "INSERT INTO schema_migration (version, name, checksum, applied_us)"
        " VALUES (:version, :name, :checksum, :applied_us)",
        {
            "version": step.version,
            "name": step.name,
            "checksum": step.checksum(engine),
            "applied_us": now_us,
        },
    )
