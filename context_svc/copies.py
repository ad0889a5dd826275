"""The copy of a store that a new version is about to bring forward: a plain database file, kept until it is removed.

It is a backup like any other, so private sessions are not in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from chassis import engines, ids
from chassis.clock import Clock
from chassis.database import Database, Engine, Statement, Unit
from context_svc import indexes, session_rows
from context_svc.backups import SCHEMA


async def copy_before_migrating(
    database: Database, folder: Path, clock: Clock, is_private: Callable[[bytes], bool]
) -> Path | None:
    """Copy a store that is about to be brought forward; None when there is nothing to bring forward.

    Only of SQLite, which is one file of this machine. Raises StoreUnavailable when the copy cannot be made.
    """
    applied = await database.read(lambda: _applied(database.engine))
    if not applied or max(applied) >= SCHEMA:
        return None
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    moment = datetime.fromtimestamp(clock.now_us() / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"context-before-{SCHEMA}-{moment}-{ids.uuid()[-6:]}.db"
    await database.copy_to(path)
    async with engines.connect(f"sqlite://{path.absolute()}", schema="", clock=clock) as copy:
        if await copy.write("private sessions", lambda: _without_private(is_private)):
            await copy.scrub(whole=True)
    return path


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
    if engine != "sqlite":
        return []
    there = yield Statement("SELECT 1 AS one FROM sqlite_master WHERE name = 'schema_migration'")
    rows = (yield Statement("SELECT version FROM schema_migration")) if there else []
    return [row["version"] for row in rows]
