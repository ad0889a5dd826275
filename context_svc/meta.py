"""Facts of this mesh that are made once and kept: its id, the epoch of its log."""

from __future__ import annotations

from dataclasses import dataclass

from chassis import ids
from chassis.database import Database, Statement, Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """Who this mesh is. `log_epoch` changes when it is restored from a backup; cursors carry it."""

    server_id: str
    log_epoch: str


async def open_mesh(database: Database) -> Mesh:
    """The mesh's identity, made at the first start."""
    server_id, log_epoch = ids.uuid(), ids.uuid()
    return await database.write("meta", lambda: _identity(server_id, log_epoch))


def log_epoch() -> Unit[str]:
    """The epoch of the log as it is stored now."""
    rows = yield Statement("SELECT value FROM meta WHERE key = 'log_epoch'")
    return str(rows[0]["value"])


def keep(key: str, value: str) -> Unit[str]:
    """Store `value` under `key` unless something is stored there; answer what is stored."""
    yield Statement(
        "INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING",
        {"key": key, "value": value},
    )
    rows = yield Statement("SELECT value FROM meta WHERE key = :key", {"key": key})
    return str(rows[0]["value"])


def _identity(server_id: str, log_epoch: str) -> Unit[Mesh]:
    return Mesh(
        server_id=(yield from keep("server_id", server_id)),
        log_epoch=(yield from keep("log_epoch", log_epoch)),
    )
