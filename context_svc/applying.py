"""Applying an archive: first every record is read and checked, then the files go to media_svc, then the rows are added.

It adds only: what is there already, by its id, stays as it is. Each step is one commit that also counts it, so that a
try which was cut off goes on where it was. Only reading and the files can refuse an archive, and both come before the
first row: of a refused import nothing stays.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import Database, Unit
from chassis.errors import ServiceError
from context_svc import arrivals, audit, imports
from context_svc.arrivals import Names, Renaming
from context_svc.audit import Entry, Event
from context_svc.errors import ArchiveInvalid, FileRefused, ImportNotFound, PeerUnavailable, QuotaExceeded
from context_svc.imports import AccountImport
from context_svc.items import Scope
from context_svc.job_rows import Job
from context_svc.jobs import Done, Later, Limits, Result
from context_svc.search import Indexing
from context_svc.unpacking import ArrivingFile, Bundle, RecordCodec, Unpacked

log = telemetry.logger(__name__)

AGAIN = 2.0  # seconds before media_svc is asked again
_RELEASED_AT_ONCE = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaClaim:
    """What holds which files: a message of a session, or the person's library. `private`: not in backups."""

    id: str
    media_ids: Sequence[str]
    session_id: str = ""
    private: bool = False


class MediaImporter(Protocol):
    """The files of an account, on their way in."""

    async def take_in(
        self, account: str, claim_id: str, file: ArrivingFile, chunks: Iterator[bytes]
    ) -> tuple[str, bool]:
        """Keep a file under a claim: its id now, and whether it is new. Raises FileRefused and PeerUnavailable."""

    async def claim(self, account: str, claim: MediaClaim) -> None:
        """Hold files. Raises PeerUnavailable."""

    async def release(self, account: str, claim_ids: Sequence[str]) -> None:
        """Give claims up. Raises PeerUnavailable."""


@dataclass(kw_only=True)
class _Work:
    """One try: what arrives, how far earlier tries came, and the figures so far."""

    arriving: AccountImport
    archive: Unpacked
    session_ids: Sequence[str]
    files: tuple[ArrivingFile, ...]
    step: int = 0
    added: Counter[str] = field(default_factory=Counter)
    present: Counter[str] = field(default_factory=Counter)
    media: dict[str, str] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)  # of the import itself, by file
    named: set[str] = field(default_factory=set)  # files that messages hold now

    @property
    def steps(self) -> int:
        """Each file, the person, each session."""
        return len(self.files) + 1 + len(self.session_ids)

    @property
    def account(self) -> str:
        return self.arriving.account

    def claim_of(self, index: int) -> str:
        """The claim that holds a file until messages do."""
        return f"{self.arriving.id}:{index}"


class Codec(RecordCodec, Renaming, Protocol):
    """Reads records, and puts other ids into them."""


class ApplyImport:
    """The kind of job that applies an import. `work` is a folder for the archive while it is read."""

    name = imports.APPLY
    limits = Limits(tries=0, seconds=3_600.0)

    def __init__(
        self,
        database: Database,
        clock: Clock,
        media: MediaImporter,
        codec: Codec,
        indexing: Indexing,
        *,
        log_epoch: str,
        work: Path,
    ) -> None:
        self._database = database
        self._media = media
        self._codec = codec
        self._indexing = indexing
        self._clock = clock
        self._log_epoch = log_epoch
        self._work = work

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        arriving = await self._database.read(lambda: imports.applying(job.subject))
        if arriving is None:
            return Done()
        try:
            with tempfile.TemporaryFile(dir=self._work) as file:
                return await self._try(arriving, file)
        except PeerUnavailable as error:
            log.warning("an import waits for media_svc", why=error.internal, job=job.id)
            return Later(AGAIN)
        except ImportNotFound:  # the account was deleted meanwhile
            return Done()

    async def _try(self, arriving: AccountImport, file: BinaryIO) -> Result:
        files: tuple[ArrivingFile, ...] = ()
        try:
            async for chunk in imports.chunks_of(self._database, arriving.id):
                await asyncio.to_thread(file.write, chunk)
            work = await asyncio.to_thread(_opened, arriving, file, self._codec)
            files = work.files
            await self._apply(work)
        except (ArchiveInvalid, FileRefused, QuotaExceeded) as error:
            return await self._refused(arriving, len(files), error)
        return Done(lambda now_us: _finished(arriving, now_us))

    async def _apply(self, work: _Work) -> None:
        for index, file in enumerate(work.files):
            await self._file(work, index, file)
        await self._step(work, lambda now_us: self._person(work, now_us))
        names = Names(account=work.account, log_epoch=self._log_epoch, media=work.media)
        bundles = work.archive.bundles()
        while (bundle := await asyncio.to_thread(next, bundles, None)) is not None:
            await self._step(work, partial(self._session, work, bundle, names))
            await self._hold(work, bundle)
        await self._keep_unnamed(work)
        for start in range(0, len(claims := sorted(work.claims.values())), _RELEASED_AT_ONCE):
            await self._media.release(work.account, claims[start : start + _RELEASED_AT_ONCE])

    async def _file(self, work: _Work, index: int, file: ArrivingFile) -> None:
        """Hand a file to media_svc, at every try: it answers under which id it is kept."""
        media_id, added = await self._media.take_in(
            work.account, work.claim_of(index), file, work.archive.blob(file.sha256)
        )
        work.media[file.id] = media_id
        work.claims[file.id] = work.claim_of(index)
        await self._step(work, lambda _now_us: _counted(work, Counter(media=1), added=added))

    async def _hold(self, work: _Work, bundle: Bundle) -> None:
        """Let the messages of a session hold their files, which the import's own claims held so far."""
        for message in bundle.messages:
            known = [each for each in message.media if each in work.media]
            if known:
                media_ids = list(dict.fromkeys(work.media[each] for each in known))
                claim = MediaClaim(
                    id=message.id,
                    media_ids=media_ids,
                    session_id=bundle.session.id,
                    private=bundle.session.private,
                )
                await self._media.claim(work.account, claim)
                work.named |= {*known}

    async def _keep_unnamed(self, work: _Work) -> None:
        """Hold the files that no message names for as long as the person wants them."""
        for file_id, claim_id in work.claims.items():
            if file_id not in work.named:
                claim = MediaClaim(id=f"{claim_id}:kept", media_ids=[work.media[file_id]])
                await self._media.claim(work.account, claim)

    async def _step(self, work: _Work, unit: Callable[[int], Unit[None]]) -> None:
        """One commit, and the figures after it; a step of an earlier try is not done again."""
        work.step += 1
        if work.step <= work.arriving.applied:
            return
        now_us = self._clock.now_us()
        figures = Counter(work.added), Counter(work.present)

        def whole() -> Unit[None]:
            work.added, work.present = Counter(figures[0]), Counter(figures[1])
            yield from imports.hold(work.arriving.id)
            yield from unit(now_us)
            yield from imports.progress(
                work.arriving.id,
                steps=work.steps,
                applied=work.step,
                added=+work.added,
                present=+work.present,
            )

        await self._database.write(work.account, whole)

    def _person(self, work: _Work, now_us: int) -> Unit[None]:
        archive, account = work.archive, work.account
        yield from arrivals.check_room(account, work.session_ids)
        devices = archive.devices()
        added = yield from arrivals.add_devices(account, devices)
        _count(work, Counter(devices=added), Counter(devices=len(devices) - added))
        own, accepted = archive.layers()
        if own is not None or accepted is not None:
            fresh = yield from arrivals.add_layers(account, own, accepted, now_us)
            yield from _counted(work, Counter(preferences=1), added=fresh)
        proposals = archive.suggestions()
        added = yield from arrivals.add_suggestions(account, proposals)
        _count(work, Counter(suggestions=added), Counter(suggestions=len(proposals) - added))
        due = archive.reminders()
        added = yield from arrivals.add_reminders(account, due, now_us)
        _count(work, Counter(reminders=added), Counter(reminders=len(due) - added))
        items = archive.user_items()
        added = yield from arrivals.add_items(Scope(account_id=account, session_id=""), items, now_us)
        _count(work, Counter(context_items=added), Counter(context_items=len(items) - added))

    def _session(self, work: _Work, bundle: Bundle, names: Names, now_us: int) -> Unit[None]:
        added = yield from arrivals.add_session(
            work.account, bundle, names, self._codec, self._indexing, now_us
        )
        if added is None:
            _count(work, Counter(), arrivals.counts(bundle))
        else:
            _count(work, added, Counter())

    async def _refused(
        self, arriving: AccountImport, files: int, error: ServiceError | FileRefused
    ) -> Result:
        claims = [f"{arriving.id}:{index}" for index in range(files)]
        for start in range(0, files, _RELEASED_AT_ONCE):
            await self._media.release(arriving.account, claims[start : start + _RELEASED_AT_ONCE])
        log.info("an import was refused", reason=error.reason, why=str(error))
        return Done(lambda now_us: _failed(arriving.id, error.reason, error.message, now_us))


def _opened(arriving: AccountImport, file: BinaryIO, codec: Codec) -> _Work:
    """The archive, read once from end to end."""
    file.seek(0)
    archive = Unpacked(file, codec)
    session_ids = archive.check()
    return _Work(
        arriving=arriving,
        archive=archive,
        session_ids=session_ids,
        files=tuple(archive.files()) if archive.with_blobs else (),
        added=Counter(arriving.added),
        present=Counter(arriving.present),
    )


def _counted(work: _Work, records: Counter[str], *, added: bool) -> Unit[None]:
    (work.added if added else work.present).update(records)
    yield from ()


def _count(work: _Work, added: Counter[str], present: Counter[str]) -> None:
    work.added.update(added)
    work.present.update(present)


def _finished(arriving: AccountImport, now_us: int) -> Unit[None]:
    yield from imports.finish(arriving.id, now_us)
    yield from audit.append(
        Entry(
            event=Event.ACCOUNT_IMPORTED,
            at_us=now_us,
            account=arriving.account,
            subject=arriving.announced.request_id,
        )
    )


def _failed(import_id: str, reason: str, message: str, now_us: int) -> Unit[None]:
    yield from imports.fail(import_id, reason, message, now_us)
