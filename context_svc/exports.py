"""An account as an archive: what a person takes along, as of one moment, streamed while it is read.

The log only grows, so that the moment is kept by remembering where each session's log ended. What is deleted or
cleared while the archive is read may be missing in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeAlias

from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit, Value
from chassis.errors import ServiceError
from chassis.tasks import Tasks
from context_svc import (
    api_tokens,
    audit,
    commands,
    consents,
    item_rows,
    reminder_rows,
    session_rows,
    suggestions,
)
from context_svc.account_archive import ArchiveWriter
from context_svc.accounts import Account, by_id
from context_svc.api_tokens import ApiToken
from context_svc.audit import Entry, Event
from context_svc.device_list import Listed
from context_svc.devices import device_from
from context_svc.errors import AccountNotFound, IdempotencyKeyReused, RateLimited
from context_svc.item_rows import Selection
from context_svc.items import Item, Scope
from context_svc.reminder_rows import Reminder
from context_svc.session_rows import Session
from context_svc.suggestions import Suggestion

HEARTBEAT = 15.0  # seconds of silence after which the stream says that it lives
_HOUR_US = round(timedelta(hours=1).total_seconds() * 1e6)
_DAY_US = 24 * _HOUR_US
_PAGE = 500


class ArchiveCodec(Protocol):
    """Writes what is stored as records of the archive, one line each."""

    def account(self, value: Account) -> str:
        """The account."""

    def device(self, value: Listed) -> str:
        """A device with its consents."""

    def api_token(self, value: ApiToken) -> str:
        """What is known of a token; never its secret."""

    def preferences(self, stored: bytes) -> str:
        """A layer of preferences."""

    def suggestion(self, value: Suggestion) -> str:
        """A suggestion."""

    def reminder(self, value: Reminder) -> str:
        """A line for a reminder."""

    def session(self, value: Session) -> str:
        """A session."""

    def item(self, value: Item) -> str:
        """A context item."""

    def message(self, stored: bytes) -> str:
        """A message."""

    def event(self, stored: bytes) -> str:
        """An event of a log."""

    def turn(self, turn_id: str, state: int, receipt: bytes) -> str:
        """A turn's receipt."""

    def media(self, value: bytes) -> str:
        """A file, from media_svc's own words."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of media_svc: what is known of it (serialised), and the digest of its bytes, which follow."""

    data: bytes
    sha256: str


class MediaExporter(Protocol):
    """The files of an account."""

    def export(
        self, account: str, job_id: str, *, with_blobs: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[File | bytes]]:
        """Each file, then its bytes. Raises PeerUnavailable, also when the stream ends too early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The archive begins. `snapshot_us` is the moment that it shows."""

    file_name: str
    snapshot_us: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The archive is whole."""

    size: int
    sha256: str
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The archive cannot be finished."""

    reason: str
    message: str


ExportFrame: TypeAlias = Started | bytes | Beat | Finished | Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class _Whole:
    """What is read in one moment; the logs of its sessions are read behind it."""

    account: Account
    devices: Sequence[Listed]
    tokens: Sequence[ApiToken]
    preferences: Sequence[tuple[str, bytes]]
    suggestions: Sequence[Suggestion]
    reminders: Sequence[Reminder]
    sessions: Sequence[Session]


class Exports:
    """Archives of accounts. Each is in the audit log and counts against the limit of an hour."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        media: MediaExporter,
        codec: ArchiveCodec,
        *,
        server_id: str,
        per_hour: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._media = media
        self._codec = codec
        self._server_id = server_id
        self._per_hour = per_hour

    async def stream(self, user: User, request_id: str, *, with_blobs: bool) -> AsyncIterator[ExportFrame]:
        """The archive: Started, bytes, and Finished or Failed last.

        Raises RateLimited and IdempotencyKeyReused before the first frame.
        """
        now_us = self._clock.now_us()
        shape = commands.shape("export", with_blobs)
        await self._database.write(
            user.account, lambda: _admit(user.account, request_id, shape, self._per_hour, now_us)
        )
        whole = await self._database.read(lambda: _whole(user.account, now_us))
        yield Started(file_name=_file_name(whole.account, now_us), snapshot_us=now_us)
        async for frame in _lively(self._frames(whole, request_id, with_blobs, now_us)):
            yield frame

    async def _frames(
        self, whole: _Whole, request_id: str, with_blobs: bool, now_us: int
    ) -> AsyncIterator[ExportFrame]:
        archive = ArchiveWriter()
        try:
            async for chunk in self._archive(archive, whole, request_id, with_blobs, now_us):
                yield chunk
        except ServiceError as error:
            yield Failed(reason=error.reason, message=error.message)
            return
        yield Finished(size=archive.size, sha256=archive.sha256, counts=archive.counts)

    async def _archive(
        self, archive: ArchiveWriter, whole: _Whole, request_id: str, with_blobs: bool, now_us: int
    ) -> AsyncIterator[bytes]:
        self._person(archive, whole)
        for kind, pages in self._logs(whole, now_us):
            with archive.records(kind) as records:
                async for lines in pages:
                    for line in lines:
                        records.write(line)
                    for chunk in archive.take():
                        yield chunk
        files: list[str] = []
        async for chunk in self._files(archive, whole.account.id, request_id, with_blobs, files):
            yield chunk
        with archive.records("media") as records:
            for line in files:
                records.write(line)
        archive.finish(
            {"server_id": self._server_id, "account_id": whole.account.id, "snapshot_us": str(now_us)}
        )
        for chunk in archive.take(1):
            yield chunk

    def _person(self, archive: ArchiveWriter, whole: _Whole) -> None:
        codec = self._codec
        with archive.records("account") as records:
            records.write(codec.account(whole.account))
        with archive.records("devices") as records:
            for device in whole.devices:
                records.write(codec.device(device))
        with archive.records("api_tokens") as records:
            for token in whole.tokens:
                records.write(codec.api_token(token))
        for kind, stored in whole.preferences:
            with archive.records(kind) as records:
                records.write(codec.preferences(stored))
        with archive.records("suggestions") as records:
            for suggestion in whole.suggestions:
                records.write(codec.suggestion(suggestion))
        with archive.records("reminders") as records:
            for reminder in whole.reminders:
                records.write(codec.reminder(reminder))
        with archive.records("sessions") as records:
            for session in whole.sessions:
                records.write(codec.session(session))

    def _logs(self, whole: _Whole, now_us: int) -> Sequence[tuple[str, AsyncIterator[list[str]]]]:
        codec, account = self._codec, whole.account.id
        scopes = [Scope(account_id=account, session_id=""), *(_scope(each) for each in whole.sessions)]
        return (
            ("context_items", self._items(scopes, now_us)),
            (
                "messages",
                self._rows(whole.sessions, "message", lambda row: codec.message(bytes(row["data"]))),
            ),
            ("events", self._rows(whole.sessions, "event", lambda row: codec.event(bytes(row["data"])))),
            ("turns", self._turns(whole.sessions)),
        )

    async def _items(self, scopes: Sequence[Scope], now_us: int) -> AsyncIterator[list[str]]:
        for scope in scopes:
            items = await self._database.read(
                lambda scope=scope: item_rows.live(scope, Selection(), now_us)  # type: ignore[misc]
            )
            yield [self._codec.item(each) for each in items]

    async def _rows(
        self, sessions: Sequence[Session], table: str, line: Callable[[Row], str]
    ) -> AsyncIterator[list[str]]:
        for session in sessions:
            after = (0, 0)
            while rows := await self._database.read(
                lambda session=session, after=after: _log_page(table, session, after)  # type: ignore[misc]
            ):
                yield [line(row) for row in rows]
                after = (rows[-1]["sequence"], rows[-1]["place"])

    async def _turns(self, sessions: Sequence[Session]) -> AsyncIterator[list[str]]:
        for session in sessions:
            after = 0
            while rows := await self._database.read(
                lambda session=session, after=after: _turn_page(session, after)  # type: ignore[misc]
            ):
                yield [
                    self._codec.turn(row["id"], row["state"], bytes(row["receipt"] or b"")) for row in rows
                ]
                after = rows[-1]["accepted_sequence"]

    async def _files(
        self, archive: ArchiveWriter, account: str, job_id: str, with_blobs: bool, lines: list[str]
    ) -> AsyncIterator[bytes]:
        """Write the blobs, and gather the lines of their files."""
        async with self._media.export(account, job_id, with_blobs=with_blobs) as parts:
            part = await anext(parts, None)
            while isinstance(part, File):
                lines.append(self._codec.media(part.data))
                sha256, part = part.sha256, await anext(parts, None)
                if not with_blobs:
                    continue
                with archive.blob(sha256) as blob:
                    while isinstance(part, bytes):
                        if blob is not None:
                            blob.write(part)
                        for chunk in archive.take():
                            yield chunk
                        part = await anext(parts, None)


async def _lively(frames: AsyncIterator[ExportFrame]) -> AsyncIterator[ExportFrame]:
    """The same frames, with signs of life when none comes for a while."""
    async with Tasks() as tasks:
        coming = tasks.spawn("export", _next(frames))
        while True:
            done, _ = await asyncio.wait({coming}, timeout=HEARTBEAT)
            if not done:
                yield Beat()
                continue
            frame = coming.result()
            if frame is None:
                return
            yield frame
            coming = tasks.spawn("export", _next(frames))


async def _next(frames: AsyncIterator[ExportFrame]) -> ExportFrame | None:
    return await anext(frames, None)


def _admit(account: str, request_id: str, shape: str, per_hour: int, now_us: int) -> Unit[None]:
    """Count a new export; a repetition counts once. Raises RateLimited and IdempotencyKeyReused."""
    held = yield Statement(
        "UPDATE account SET version = version WHERE id = :id RETURNING id", {"id": account}
    )
    if not held:
        raise AccountNotFound
    yield Statement("DELETE FROM account_export WHERE create_us <= :old", {"old": now_us - _DAY_US})
    rows = yield Statement(
        "SELECT request_id, shape, create_us FROM account_export WHERE account_id = :account"
        " ORDER BY create_us DESC",
        {"account": account},
    )
    for row in rows:
        if row["request_id"] == request_id:
            if row["shape"] != shape:
                raise IdempotencyKeyReused
            return
    recent = [row["create_us"] for row in rows if row["create_us"] > now_us - _HOUR_US]
    if len(recent) >= per_hour:
        free_us = recent[per_hour - 1] + _HOUR_US - now_us
        raise RateLimited(retry_after=timedelta(microseconds=free_us), quota="exports")
    arguments: dict[str, Value] = {"account": account, "request": request_id, "shape": shape, "now": now_us}
    yield Statement(
        "INSERT INTO account_export (account_id, request_id, shape, create_us)"
        " VALUES (:account, :request, :shape, :now)",
        arguments,
    )
    yield from audit.append(
        Entry(event=Event.ACCOUNT_EXPORTED, at_us=now_us, account=account, subject=request_id)
    )


def _whole(account: str, now_us: int) -> Unit[_Whole]:
    known = yield from by_id(account)
    if known is None:
        raise AccountNotFound
    agreed = yield from consents.of_devices(account)
    devices = yield Statement(
        "SELECT * FROM device WHERE account_id = :account ORDER BY create_us, id", {"account": account}
    )
    preferences = yield Statement(
        "SELECT own, accepted FROM preference WHERE account_id = :account", {"account": account}
    )
    sessions = yield Statement(
        "SELECT * FROM session WHERE account_id = :account ORDER BY create_us, id", {"account": account}
    )
    return _Whole(
        account=known.account,
        devices=[
            Listed(
                device=device_from(row), consents=agreed.get(row["id"], ()), signed_in=False, current=False
            )
            for row in devices
        ],
        tokens=(yield from api_tokens.all_of(account, now_us)),
        preferences=[
            (kind, bytes(row[column]))
            for row in preferences
            for kind, column in (("preferences", "own"), ("accepted_preferences", "accepted"))
        ],
        suggestions=(yield from suggestions.all_of(account)),
        reminders=(yield from reminder_rows.all_of(account)),
        sessions=[session_rows.from_row(row) for row in sessions],
    )


def _scope(session: Session) -> Scope:
    return Scope(account_id=session.account_id, session_id=session.id)


def _log_page(table: str, session: Session, after: tuple[int, int]) -> Unit[Sequence[Row]]:
    """A page behind a position: an answer that came with its message stands at the same sequence, behind it."""
    place = "role" if table == "message" else "0"
    return (
        yield Statement(
            f"SELECT sequence, {place} AS place, data FROM {table} WHERE session_id = :session"  # noqa: S608 - our names
            f" AND (sequence > :after OR (sequence = :after AND {place} > :place))"
            f" AND sequence <= :last ORDER BY sequence, place LIMIT :limit",
            {
                "session": session.id,
                "after": after[0],
                "place": after[1],
                "last": session.last_sequence,
                "limit": _PAGE,
            },
        )
    )


def _turn_page(session: Session, after: int) -> Unit[Sequence[Row]]:
    return (
        yield Statement(
            "SELECT id, state, receipt, accepted_sequence FROM turn WHERE session_id = :session"
            " AND accepted_sequence > :after AND accepted_sequence <= :last"
            " ORDER BY accepted_sequence LIMIT :limit",
            {"session": session.id, "after": after, "last": session.last_sequence, "limit": _PAGE},
        )
    )


def _file_name(account: Account, now_us: int) -> str:
    return f"assistant-{account.id[:8]}-{now_us // 1_000_000}.zip"
