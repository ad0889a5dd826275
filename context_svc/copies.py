"""The copy of a store that a new version is about to bring forward, kept until it is removed.

Of SQLite it is a plain database file, of PostgreSQL a backup of this room's rows alone (`context_svc.archive`), which
`mesh restore` takes. Private sessions are in neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from chassis import dump, engines, ids
from chassis.clock import Clock
from chassis.database import Database, Engine, Statement, Unit
from chassis.errors import StoreUnavailable
from context_svc import archive, indexes, session_rows
from context_svc.archive import Draft, Manifest
from context_svc.backups import KEPT_US, MADE_AGAIN, OWN_TABLES, SCHEMA, left_out
from context_svc.program import program_version
from context_svc.schema import MIGRATIONS


async def bring_forward(
    database: Database, folder: Path, clock: Clock, is_private: Callable[[bytes], bool]
) -> None:
    """Copy a store of an older version and migrate it; one replica does so while the others wait.

    Raises StoreUnavailable and MigrationRefused.
    """
    async with database.alone():  # a second one would copy tables that change meanwhile
        await copy_before_migrating(database, folder, clock, is_private)
        await database.migrate(MIGRATIONS)


async def copy_before_migrating(
    database: Database, folder: Path, clock: Clock, is_private: Callable[[bytes], bool]
) -> Path | None:
    """Copy a store that is about to be brought forward; None when there is nothing to bring forward.

    Raises StoreUnavailable when the copy cannot be made.
    """
    applied = await database.read(lambda: _applied(database.engine))
    if not applied or max(applied) >= SCHEMA:
        return None
    moment = datetime.fromtimestamp(clock.now_us() / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"context-before-{SCHEMA}-{moment}-{ids.uuid()[-6:]}"
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        if database.engine == "sqlite":
            return await _file(database, folder / f"{name}.db", clock, is_private)
        return await _archived(database, Draft(folder, name), clock, is_private, max(applied))
    except OSError as error:
        raise StoreUnavailable(f"no copy before the migration: {error.strerror}") from error


async def _file(database: Database, path: Path, clock: Clock, is_private: Callable[[bytes], bool]) -> Path:
    await database.copy_to(path)
    async with engines.connect(_url(path), schema="", clock=clock) as copy:
        if await copy.write("private sessions", lambda: _without_private(is_private)):
            await copy.scrub(whole=True)
    return path


def _url(path: Path) -> str:
    return f"sqlite://{path.absolute()}"


async def _archived(
    database: Database, draft: Draft, clock: Clock, is_private: Callable[[bytes], bool], schema: int
) -> Path:
    now_us, leave = clock.now_us(), left_out(is_private)
    try:
        with draft.part(archive.CONTEXT) as part:
            await database.read(
                lambda: dump.dump(database.engine, part.line, without=OWN_TABLES | MADE_AGAIN, leave=leave)
            )
        manifest = Manifest(
            format=archive.FORMAT,
            id=ids.uuid(now_us),
            server_id=await database.read(_server_id),
            version=program_version(),
            schema=schema,
            snapshot_us=now_us,
            expire_us=now_us + KEPT_US,
            media_format=0,
            parts=draft.parts,
        )
        await asyncio.to_thread(draft.finish, manifest)
    except BaseException:
        draft.abandon()
        raise
    return draft.path


def _server_id() -> Unit[str]:
    rows = yield Statement("SELECT value FROM meta WHERE key = 'server_id'")
    return str(rows[0]["value"]) if rows else ""


def _without_private(is_private: Callable[[bytes], bool]) -> Unit[bool]:
    """Delete the private sessions of a store of any version; whether there were any."""
    rows = yield Statement("SELECT id, settings FROM session")
    gone = [row["id"] for row in rows if is_private(bytes(row["settings"] or b""))]
    for session_id in gone:
        yield Statement("DELETE FROM session WHERE id = :id", {"id": session_id})
    indexed = yield Statement("SELECT 1 AS one FROM sqlite_master WHERE name = 'message_search_gone'")
    if indexed:
        yield from indexes.of_engine("sqlite").clean()
    yield from session_rows.count_again()
    return bool(gone)


def _applied(engine: Engine) -> Unit[list[int]]:
    if engine == "sqlite":
        there = yield Statement("SELECT 1 AS one FROM sqlite_master WHERE name = 'schema_migration'")
    else:
        there = yield Statement("SELECT 1 AS one WHERE to_regclass('schema_migration') IS NOT NULL")
    rows = (yield Statement("SELECT version FROM schema_migration")) if there else []
    return [row["version"] for row in rows]
