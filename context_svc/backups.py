"""Backups of the whole mesh while it serves, and putting one in the place of the present state.

A backup is one checked file outside the data folder (`context_svc.archive`): this room's rows as of one moment, without
private sessions and archives on their way in, and media_svc's own part. After a restore every sign-in has ended, the
log has a new epoch, and this process is started anew.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from chassis import dump, ids, telemetry
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit, Value
from chassis.errors import InvalidRequest, StoreUnavailable, Violation
from context_svc import archive, audit, deletions, erasures, session_rows
from context_svc.archive import ArchiveBroken, ArchiveTooNew, Draft, Manifest
from context_svc.audit import Entry, Event
from context_svc.erasures import Erasure, ErasureFile
from context_svc.errors import (
    ArchiveInvalid,
    BackupNotFound,
    BackupTooNew,
    IdempotencyKeyReused,
    QuotaExceeded,
)
from context_svc.imports import ImportState
from context_svc.reindexing import index_from
from context_svc.schema import MIGRATIONS

log = telemetry.logger(__name__)

KEPT_US = 7 * 86_400_000_000
ROUND = 5.0  # seconds between two looks at what was erased, and what has expired
OWN_TABLES = frozenset(
    {
        "schema_migration",
        "owner",
        "throttle",
        "audit",
        "audit_head",
        "erasure",
        "backup",
        "deletion",
        "message_search_gone",
    }
)
"""What belongs to this store and not to the state that a backup shows."""
MADE_AGAIN = frozenset({"message_search"})
"""What is made from the rest: see `context_svc.reindexing`."""

SCHEMA = max(migration.version for migration in MIGRATIONS)
_RESTORED = "restored:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """A kept backup. Times in microseconds since 1970."""

    id: str
    location: str
    size: int
    sha256: str
    version: str
    snapshot_us: int
    expire_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a restore did."""

    log_epoch: str
    previous: Backup
    reapplied: int


class MediaWriting(Protocol):
    """media_svc's state on its way out. `format` is known once the block is entered."""

    format: int

    def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes. Raises PeerUnavailable when they do not come whole."""


class Vault(Protocol):
    """media_svc, as far as backups need it: `context_svc.peers` dials it."""

    def write(self, backup_id: str) -> AbstractAsyncContextManager[MediaWriting]:
        """Its whole state as of now. Raises PeerUnavailable."""

    async def read(self, manifest: Manifest, path: Path) -> None:
        """Put the part of a backup in the place of its state. Raises PeerUnavailable and ArchiveInvalid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where backups go and what they must know. `restart` ends this process so that it is started anew."""

    folder: Path
    data: Path
    server_id: str
    version: str
    is_private: Callable[[bytes], bool]
    renew_keys: Callable[[], None]
    restart: Callable[[], None]


class Backups:
    """Makes, lists, expires and restores backups."""

    def __init__(self, database: Database, clock: Clock, vault: Vault, setting: Setting) -> None:
        self._database = database
        self._clock = clock
        self._vault = vault
        self._setting = setting
        self._one_at_a_time = asyncio.Lock()
        self._noted: list[Erasure] | None = None

    async def create(self, request_id: str, directory: str) -> Backup:
        """A backup, complete and read back; a repeat answers it.

        Raises InvalidRequest, PeerUnavailable, QuotaExceeded, StoreUnavailable and IdempotencyKeyReused.
        """
        folder = self._folder(directory)
        async with self._one_at_a_time:
            known = await self._database.read(lambda: _find(request_id))
            if known is None:
                return await self._make(request_id, folder)
            if Path(known.location).parent != folder:
                raise IdempotencyKeyReused
            return known

    async def restore(self, request_id: str, *, backup_id: str = "", path: str = "") -> Restored:
        """Put a backup in the place of the present state, which is backed up before.

        Raises BackupNotFound, BackupTooNew, ArchiveInvalid, PeerUnavailable and IdempotencyKeyReused.
        """
        source = backup_id or path
        async with self._one_at_a_time:
            told = await self._database.read(lambda: _meta(_RESTORED + request_id))
            if told is not None:
                return _told_again(told, source)
            found = await self._locate(backup_id, path)
            manifest = await asyncio.to_thread(_checked, found)
            previous = await self._make(ids.uuid(), self._setting.folder)
            beside = await asyncio.to_thread(ErasureFile(found.parent).read)
            if archive.MEDIA in manifest.parts:  # not in one that was made before a migration
                await self._vault.read(manifest, found)
            return await self._put_in_place(request_id, source, found, manifest, previous, beside)

    async def kept(self) -> tuple[Backup, ...]:
        """The backups, newest first."""
        return await self._database.read(_all)

    async def keep_tidy(self) -> None:
        """Note erasures beside the backups, and remove what has expired, for ever."""
        while True:
            try:
                await self._tidy()
            except (StoreUnavailable, OSError) as error:
                log.warning("backups were not tidied", error=error)
            await self._clock.sleep(ROUND)

    async def _tidy(self) -> None:
        now_us = self._clock.now_us()
        if await self._database.read(lambda: erasures.since(0)):
            await self._database.write("erasure", lambda: erasures.forget(now_us - erasures.KEPT_US))
        noted = await self._database.read(lambda: erasures.since(0))
        if noted != self._noted:
            await asyncio.to_thread(_note_beside, self._setting.folder, noted)
            self._noted = noted
        for backup in await self.kept():
            if backup.expire_us <= now_us:
                await asyncio.to_thread(_remove, backup.location)
                await self._database.write("backup", lambda id=backup.id: _forget(id))  # type: ignore[misc]

    def _folder(self, directory: str) -> Path:
        folder = Path(directory) if directory else self._setting.folder
        inside = folder.resolve().is_relative_to(self._setting.data.resolve())
        if not folder.is_absolute() or inside:
            why = "must be an absolute path outside of the data folder"
            raise InvalidRequest(
                violations=[Violation(field="directory", description=why, rule="backup.directory")]
            )
        return folder

    async def _locate(self, backup_id: str, path: str) -> Path:
        if backup_id:
            known = await self._database.read(lambda: _find(backup_id))
            found = [Path(known.location)] if known else []
        else:
            found = await asyncio.to_thread(archive.found_in, Path(path))
        if not found or not await asyncio.to_thread(found[-1].is_file):
            raise BackupNotFound
        return found[-1]

    async def _make(self, backup_id: str, folder: Path) -> Backup:
        try:
            return await self._written(backup_id, folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise QuotaExceeded(quota="disk") from error
            raise StoreUnavailable(f"the backup could not be written: {error.strerror}") from error

    async def _written(self, backup_id: str, folder: Path) -> Backup:
        now_us = self._clock.now_us()
        moment = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
        draft = await asyncio.to_thread(Draft, folder, f"mesh-{moment}-{backup_id[-12:]}")
        try:
            async with self._vault.write(backup_id) as media:
                await self._write_own(draft)
                with draft.part(archive.MEDIA) as part:
                    async for piece in media.pieces():
                        await asyncio.to_thread(part.write, piece)
            manifest = Manifest(
                format=archive.FORMAT,
                id=backup_id,
                server_id=self._setting.server_id,
                version=self._setting.version,
                schema=SCHEMA,
                snapshot_us=now_us,
                expire_us=now_us + KEPT_US,
                media_format=media.format,
                parts=draft.parts,
            )
            await asyncio.to_thread(draft.finish, manifest)
            await asyncio.to_thread(archive.check, draft.path, schema=SCHEMA)
        except BaseException:
            draft.abandon()
            raise
        backup = _backup(manifest, draft.path)
        await self._database.write("backup", lambda: _keep(backup, now_us))
        return backup

    async def _write_own(self, draft: Draft) -> None:
        with tempfile.TemporaryDirectory(prefix=".work-", dir=draft.path.parent) as work:
            async with self._database.frozen(Path(work)) as state:
                with draft.part(archive.CONTEXT) as part:
                    await state.read(
                        lambda: dump.dump(
                            state.engine,
                            part.line,
                            without=OWN_TABLES | MADE_AGAIN,
                            leave=left_out(self._setting.is_private),
                        )
                    )

    async def _put_in_place(
        self,
        request_id: str,
        source: str,
        path: Path,
        manifest: Manifest,
        previous: Backup,
        beside: list[Erasure],
    ) -> Restored:
        epoch, engine, now_us = ids.uuid(), self._database.engine, self._clock.now_us()

        def unit() -> Unit[int]:
            noted = yield from erasures.since(0)
            yield from dump.load(engine, archive.lines(path), keep=OWN_TABLES)
            yield from index_from()
            yield from erasures.replace_all([*noted, *beside])
            again = yield from erasures.since(manifest.snapshot_us)
            reapplied = yield from erasures.apply(again)
            yield from erasures.replace_all([*noted, *beside])
            yield from deletions.resume(now_us)
            yield from _end_sign_ins(now_us)
            yield from session_rows.count_again()
            yield from _set_meta("log_epoch", epoch)
            told = json.dumps([source, epoch, asdict(previous), reapplied])
            yield from _set_meta(_RESTORED + request_id, told)
            yield from audit.append(Entry(event=Event.BACKUP_RESTORED, at_us=now_us, subject=manifest.id))
            return reapplied

        try:
            reapplied = await self._database.write("restore", unit)
        except dump.DumpInvalid as error:
            raise ArchiveInvalid(str(error)) from error
        self._setting.renew_keys()
        self._setting.restart()
        return Restored(log_epoch=epoch, previous=previous, reapplied=reapplied)


def left_out(is_private: Callable[[bytes], bool]) -> dump.Leave:
    """Which rows of this room are in no backup, with all that refers to them."""

    def leave(table: str, row: Mapping[str, Value]) -> bool:
        if table == "account_import":  # an archive on its way in may hold private sessions
            return row["state"] in (ImportState.RECEIVING, ImportState.APPLYING)
        settings = row.get("settings")
        marked = bool(row.get("private")) or (isinstance(settings, bytes) and is_private(settings))
        return table == "session" and marked

    return leave


def _note_beside(folder: Path, noted: Sequence[Erasure]) -> None:
    if folder.is_dir():
        ErasureFile(folder).write(noted)


def _remove(location: str) -> None:
    Path(location).unlink(missing_ok=True)


def _checked(path: Path) -> Manifest:
    try:
        return archive.check(path, schema=SCHEMA)
    except ArchiveTooNew as error:
        raise BackupTooNew(str(error)) from error
    except ArchiveBroken as error:
        raise ArchiveInvalid(str(error)) from error


def _backup(manifest: Manifest, path: Path) -> Backup:
    return Backup(
        id=manifest.id,
        location=str(path),
        size=path.stat().st_size,
        sha256=manifest.sha256(),
        version=manifest.version,
        snapshot_us=manifest.snapshot_us,
        expire_us=manifest.expire_us,
    )


def _told_again(text: str, source: str) -> Restored:
    said, epoch, previous, reapplied = json.loads(text)
    if said != source:
        raise IdempotencyKeyReused
    return Restored(log_epoch=epoch, previous=Backup(**previous), reapplied=reapplied)


def _end_sign_ins(now_us: int) -> Unit[None]:
    yield Statement("UPDATE sign_in SET end_us = :now WHERE end_us IS NULL", {"now": now_us})
    yield Statement("UPDATE api_token SET end_us = :now WHERE end_us IS NULL", {"now": now_us})
    yield Statement("DELETE FROM refresh_token")


def _meta(key: str) -> Unit[str | None]:
    rows = yield Statement("SELECT value FROM meta WHERE key = :key", {"key": key})
    return str(rows[0]["value"]) if rows else None


def _set_meta(key: str, value: str) -> Unit[None]:
    yield Statement(
        "INSERT INTO meta (key, value) VALUES (:key, :value)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        {"key": key, "value": value},
    )


def _keep(backup: Backup, now_us: int) -> Unit[None]:
    yield Statement(
        "INSERT INTO backup (id, request_hash, location, size, sha256, version, snapshot_us, expire_us)"
        " VALUES (:id, :hash, :location, :size, :sha256, :version, :snapshot_us, :expire_us)"
        " ON CONFLICT (id) DO NOTHING",
        {**asdict(backup), "hash": hashlib.sha256(backup.location.encode()).hexdigest()},
    )
    yield from audit.append(Entry(event=Event.BACKUP_CREATED, at_us=now_us, subject=backup.id))


def _forget(backup_id: str) -> Unit[None]:
    yield Statement("DELETE FROM backup WHERE id = :id", {"id": backup_id})


def _find(backup_id: str) -> Unit[Backup | None]:
    rows = yield Statement("SELECT * FROM backup WHERE id = :id", {"id": backup_id})
    return _read(rows[0]) if rows else None


def _all() -> Unit[tuple[Backup, ...]]:
    rows = yield Statement("SELECT * FROM backup ORDER BY snapshot_us DESC, id LIMIT 200")
    return tuple(map(_read, rows))


def _read(row: Row) -> Backup:
    return Backup(
        id=row["id"],
        location=row["location"],
        size=row["size"],
        sha256=row["sha256"],
        version=row["version"],
        snapshot_us=row["snapshot_us"],
        expire_us=row["expire_us"],
    )
