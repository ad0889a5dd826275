"""Delivery: every reader of a session gets each event once, in order, whatever it missed.

A reader registers, reads its log to the end, then follows what is published. What does not fit into its outbox is
dropped, and the reader reads the log again from its cursor: a slow reader costs a bounded amount of memory and nobody
else's time. A gap can therefore never be seen, only a delay. One that takes nothing at all for 30 seconds is detached:
what waits for it is dropped, and should it read again, it is told where to resume.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from chassis import telemetry
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.errors import ServiceError
from chassis.hints import Touched
from chassis.tasks import Tasks
from context_svc.errors import CursorAhead, SessionNotFound, TooManyStreams
from context_svc.journal import Entry
from context_svc.snapshots import Cursor, Snapshot, read_on

log = telemetry.logger(__name__)

OUTBOX_EVENTS = 256
OUTBOX_BYTES = 256 * 1024
PAGE = 200  # events that are read at once
PAGE_BYTES = 128 * 1024  # of them: all that a stalled reader holds beside its outbox
HEARTBEAT = 15.0  # seconds of silence
STALLED = 30.0  # seconds in which a client took nothing
ROUND = 1.0  # seconds between two looks at all readers
RECENT_US = 60_000_000  # how far back a hint makes us look: more than clocks differ and a commit takes
LIFETIME = 3600.0  # seconds, give or take a tenth: then a stream ends, and its client opens another


class CloseReason(IntEnum):
    """Why the server ends a stream. The contract's numbers."""

    REVOKED = 1
    DRAINING = 2
    SLOW = 3
    DELETED = 4
    EXPIRED = 5
    DONE = 6


@dataclass(frozen=True, slots=True)
class Beat:
    """The stream is alive and stands at these positions, as far as they moved."""

    positions: tuple[Cursor, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream ends here; nothing follows."""

    reason: CloseReason
    positions: tuple[Cursor, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame of this stream's client was refused; the stream stays up. It is no event."""

    client_id: str
    error: ServiceError
    request_id: str


Frame: TypeAlias = Entry | Snapshot | Beat | Closed | Refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """Where a session's log stands now."""

    session_id: str
    account_id: str
    last_sequence: int


class Reader:
    """One open stream of one account. One task takes its frames; the other methods are for whoever has news."""

    def __init__(self, user: User, log_epoch: str, database: Database, clock: Clock) -> None:
        self.account_id = user.account
        self.sign_in = user.sign_in
        self.began: Mapping[str, int] = {}
        """Where each session of the account stood when a reader of all of them began, on a shared store."""
        self._log_epoch = log_epoch
        self._database = database
        self._clock = clock
        self._positions: dict[str, int] = {}
        self._moved: set[str] = set()
        self._foreign: dict[str, Cursor] = {}
        self._behind: dict[str, bool] = {}  # True: something was published since it was last read
        self._outbox: list[Entry | Refused] = []  # a deque takes 760 bytes even when it is empty
        self._bytes = 0
        self._waiting: asyncio.Future[None] | None = None  # the one who takes frames, while there are none
        self._closed: CloseReason | None = None
        self._task: asyncio.Task[object] | None = None
        now = clock.monotonic()
        self._ends = now + LIFETIME * random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnections, guards nothing
        self._handing_since: float | None = None  # a frame is on its way to the client
        self._beat_due = False
        self.due = min(now + HEARTBEAT, self._ends)
        """When `look` may have something to do, by the steady clock: not before."""

    def follow(
        self, session_id: str, sequence: int, *, to_the_end: bool = True, foreign: Cursor | None = None
    ) -> None:
        """Follow a session from after `sequence`; what is there already is read first.

        `foreign` is the cursor of another epoch that was asked for: a Snapshot comes first.
        """
        self._positions[session_id] = sequence
        if foreign is not None:
            self._foreign[session_id] = foreign
        self._moved.add(session_id)
        if to_the_end:
            self._behind[session_id] = True
        self._ring()

    def drop(self, session_id: str) -> None:
        """Follow a session no more, and forget what waits of it."""
        self._positions.pop(session_id, None)
        self._behind.pop(session_id, None)
        self._foreign.pop(session_id, None)
        self._moved.discard(session_id)
        kept = [item for item in self._outbox if isinstance(item, Refused) or item.session_id != session_id]
        self._outbox = kept
        self._bytes = sum(len(item.data) for item in kept if isinstance(item, Entry))

    @property
    def sessions(self) -> Iterable[str]:
        """The sessions that are followed."""
        return self._positions.keys()

    def follows(self, session_id: str) -> bool:
        """Whether the session is followed."""
        return session_id in self._positions

    def deliver(self, entry: Entry) -> None:
        """Take a committed entry of a session that is followed."""
        if entry.session_id in self._behind:
            self._behind[entry.session_id] = True
            return
        if len(self._outbox) >= OUTBOX_EVENTS or self._bytes + len(entry.data) > OUTBOX_BYTES:
            self._fall_behind()
            self._behind[entry.session_id] = True
        else:
            self._outbox.append(entry)
            self._bytes += len(entry.data)
        self._ring()

    def look_again(self, session_id: str) -> None:
        """Another process may have appended to a session that is followed: read on."""
        if session_id in self._positions:
            self._behind[session_id] = True
            self._ring()

    def has(self, session_id: str, sequence: int) -> bool:
        """Whether nothing up to `sequence` is missing here, as far as this reader follows the session or began."""
        return self._positions.get(session_id, self.began.get(session_id, 0)) >= sequence

    def say(self, refused: Refused) -> None:
        """Put in a frame that is no event, after what waits now."""
        self._outbox.append(refused)
        self._ring()

    def close(self, reason: CloseReason) -> None:
        """End the stream after what waits now."""
        self._closed = reason
        self._ring()

    def look(self, now: float) -> bool:
        """End the stream when it is old, speak when it was silent for long; whether its client takes nothing: a stall.

        One that stays so for as long again is cut off: not even its end can be told.
        """
        self.due = now  # until something is said: then it is counted anew
        if now >= self._ends and self._closed is None:
            self.close(CloseReason.EXPIRED)
        if self._handing_since is None:
            self._beat_due = True
            self._ring()
            return False
        waited = now - self._handing_since
        if waited >= 2 * STALLED and self._task is not None:
            self._task.cancel()
        return waited >= STALLED and self._closed is not CloseReason.SLOW

    def detach(self) -> None:
        """Drop all that waits for a stalled client; should it read again, it is told where to resume."""
        self._outbox = []
        self._bytes = 0
        self._behind.clear()
        self._foreign.clear()
        self.close(CloseReason.SLOW)

    async def frames(self) -> AsyncIterator[Frame]:
        """Everything this reader is to get, to the end of the stream. Opens with a Beat."""
        self._task = asyncio.current_task()
        async for frame in self._frames():
            self._handing_since = now = self._clock.monotonic()
            self.due = min(now + STALLED, self._ends)
            yield frame
            self._handing_since = None
            self.due = min(self._clock.monotonic() + HEARTBEAT, self._ends)

    async def _frames(self) -> AsyncIterator[Frame]:
        yield self._beat()
        while True:
            while self._behind:
                async for entry in self._caught_up(next(iter(self._behind))):
                    yield entry
            for frame in self._drained():
                yield frame
            if self._behind or self._outbox:
                continue
            if self._closed is not None:
                yield Closed(self._closed, tuple(self._cursors(self._positions)))
                return
            if not await self._woken():
                yield self._beat()

    async def _caught_up(self, session_id: str) -> AsyncIterator[Entry | Snapshot]:
        while self._behind.get(session_id, False):
            asked = self._foreign.pop(session_id, None) or next(self._cursors([session_id]))
            self._behind[session_id] = False
            page = await self._database.read(
                lambda asked=asked: read_on(  # type: ignore[misc]
                    self.account_id, asked, self._log_epoch, PAGE, PAGE_BYTES
                )
            )
            if isinstance(page, Snapshot):
                if self._jumps(page):
                    yield page
                continue
            for entry in page:
                if self._closed is CloseReason.SLOW:
                    break
                if self._advances(entry):
                    yield entry
            if self._closed is CloseReason.SLOW:
                break
            if page and session_id in self._positions:  # it may have been cut anywhere
                self._behind[session_id] = True
        self._behind.pop(session_id, None)

    def _drained(self) -> Iterator[Entry | Refused]:
        while self._outbox and not self._behind:
            item = self._outbox.pop(0)
            if isinstance(item, Refused):
                yield item
                continue
            self._bytes -= len(item.data)
            if item.sequence > self._positions[item.session_id] + 1:
                self._behind[item.session_id] = True
            elif self._advances(item):
                yield item

    def _jumps(self, snapshot: Snapshot) -> bool:
        session_id = snapshot.through.session_id
        if session_id not in self._positions:
            return False  # followed no more
        self._positions[session_id] = snapshot.through.sequence
        self._moved.add(session_id)
        self._behind[session_id] = True
        return True

    def _advances(self, entry: Entry) -> bool:
        if entry.sequence <= self._positions.get(entry.session_id, entry.sequence):
            return False  # seen already, or of a session that is followed no more
        self._positions[entry.session_id] = entry.sequence
        self._moved.add(entry.session_id)
        return True

    def _fall_behind(self) -> None:
        kept: list[Entry | Refused] = [item for item in self._outbox if isinstance(item, Refused)]
        for item in self._outbox:
            if isinstance(item, Entry):
                self._behind[item.session_id] = True
        self._outbox = kept
        self._bytes = 0

    async def _woken(self) -> bool:
        if self._behind or self._outbox or self._closed is not None:
            return True
        if not self._beat_due:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        silent = self._beat_due and not (self._behind or self._outbox or self._closed is not None)
        self._beat_due = False
        return not silent

    def _ring(self) -> None:
        """Wake whoever takes the frames: there is news, which `_woken` looks for before it waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _beat(self) -> Beat:
        moved, self._moved = self._moved, set()
        return Beat(tuple(self._cursors(moved)))

    def _cursors(self, sessions: Iterable[str]) -> Iterator[Cursor]:
        for session_id in sessions:
            yield Cursor(
                session_id=session_id, log_epoch=self._log_epoch, sequence=self._positions[session_id]
            )


class Readers:
    """All open streams of this process."""

    def __init__(self, database: Database, clock: Clock, log_epoch: str, *, per_account: int = 64) -> None:
        self._per_account = per_account
        self._database = database
        self._clock = clock
        self._log_epoch = log_epoch
        self._of_session: dict[str, set[Reader]] = {}
        self._of_account: dict[str, set[Reader]] = {}
        self._everything: dict[str, set[Reader]] = {}
        self._somebody = asyncio.Event()

    def __len__(self) -> int:
        return sum(len(readers) for readers in self._of_account.values())

    @contextmanager
    def reader(self, user: User, *, all_sessions: bool = False) -> Iterator[Reader]:
        """A stream of one person, registered while the block lasts. Raises TooManyStreams."""
        mine = self._of_account.setdefault(user.account, set())
        if len(mine) >= self._per_account:
            raise TooManyStreams(quota="streams of an account")
        reader = Reader(user, self._log_epoch, self._database, self._clock)
        mine.add(reader)
        self._somebody.set()
        if all_sessions:
            self._everything.setdefault(user.account, set()).add(reader)
        try:
            yield reader
        finally:
            self._forget(reader)

    async def follow(self, reader: Reader, cursor: Cursor) -> None:
        """Let a reader follow one session of its account. Raises SessionNotFound and CursorAhead."""
        last = await self._database.read(lambda: _last_sequence(cursor.session_id, reader.account_id))
        if last is None:
            raise SessionNotFound
        if cursor.log_epoch not in ("", self._log_epoch):
            self._of_session.setdefault(cursor.session_id, set()).add(reader)
            reader.follow(cursor.session_id, 0, foreign=cursor)
            return
        if cursor.sequence > last:
            raise CursorAhead(metadata={"last_sequence": str(last)})
        self.follow_known(reader, cursor.session_id, cursor.sequence)

    def follow_known(
        self, reader: Reader, session_id: str, sequence: int, *, to_the_end: bool = True
    ) -> None:
        """Let a reader follow a session that is known to be its account's and to reach `sequence`.

        `to_the_end=False` promises that everything after `sequence` is still to be published.
        """
        self._of_session.setdefault(session_id, set()).add(reader)
        reader.follow(session_id, sequence, to_the_end=to_the_end)

    async def begin(self, reader: Reader) -> None:
        """Note where the account's sessions stand, so that what another process appends later can be told apart."""
        if self._database.engine != "sqlite":
            reader.began = await self._database.read(lambda: _positions_of(reader.account_id))

    async def look_again(self, touched: Touched) -> None:
        """Other processes may have appended: readers of what they touched read on from where they are."""
        for session_id in [each for each in self._of_session if touched.concerns(each)]:
            for reader in self._of_session[session_id]:
                reader.look_again(session_id)
        if not self._everything:
            return
        since_us = 0 if touched.everything else self._clock.now_us() - RECENT_US
        accounts = frozenset(self._everything)
        for moved in await self._database.read(lambda: _moved_since(since_us)):
            if moved.account_id in accounts:
                self._notice(moved)

    def _notice(self, moved: Moved) -> None:
        for reader in self._everything.get(moved.account_id, ()):
            if reader.follows(moved.session_id) or reader.has(moved.session_id, moved.last_sequence):
                continue
            self._of_session.setdefault(moved.session_id, set()).add(reader)
            reader.follow(moved.session_id, reader.began.get(moved.session_id, 0))

    def publish(self, entries: Iterable[Entry]) -> None:
        """Hand committed entries to everyone who reads their session."""
        for entry in entries:
            for reader in self._of_session.get(entry.session_id, ()):
                if reader.follows(entry.session_id):
                    reader.deliver(entry)
            for reader in self._everything.get(entry.account_id, ()):
                if not reader.follows(entry.session_id):
                    reader.follow(entry.session_id, entry.sequence - 1, to_the_end=False)
                    self._of_session.setdefault(entry.session_id, set()).add(reader)
                    reader.deliver(entry)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep silent streams alive and detach stalled ones while the block lasts."""
        async with Tasks() as tasks:
            tasks.spawn("watch the readers", self._watch())
            yield

    async def _watch(self) -> None:
        while True:
            await self._somebody.wait()
            await self._clock.sleep(ROUND)
            now = self._clock.monotonic()
            for reader in [each for readers in self._of_account.values() for each in readers]:
                if reader.due <= now and reader.look(now):
                    log.info("a stalled reader was detached", account=reader.account_id)
                    self._unlist(reader)
                    reader.detach()

    def close_all(self, reason: CloseReason) -> None:
        """End every stream, as at the end of the process."""
        for readers in list(self._of_account.values()):
            for reader in list(readers):
                reader.close(reason)

    def close_sign_ins(self, sign_ins: Collection[str], reason: CloseReason) -> None:
        """End every stream of these sign-ins."""
        for readers in list(self._of_account.values()):
            for reader in [each for each in readers if each.sign_in in sign_ins]:
                reader.close(reason)

    def close_session(self, session_id: str) -> None:
        """The session was deleted: end every stream that follows it; their other sessions can be resumed."""
        for reader in self._of_session.pop(session_id, set()):
            reader.drop(session_id)
            reader.close(CloseReason.DELETED)

    def _forget(self, reader: Reader) -> None:
        self._unlist(reader)
        _discard(self._of_account, reader.account_id, reader)
        if not self._of_account:
            self._somebody.clear()

    def _unlist(self, reader: Reader) -> None:
        """Deliver nothing to it any more."""
        for session_id in reader.sessions:
            _discard(self._of_session, session_id, reader)
        _discard(self._everything, reader.account_id, reader)


def _discard(index: dict[str, set[Reader]], key: str, reader: Reader) -> None:
    readers = index.get(key, set())
    readers.discard(reader)
    if not readers:
        index.pop(key, None)


def _positions_of(account_id: str) -> Unit[Mapping[str, int]]:
    rows = yield Statement(
        "SELECT id, last_sequence FROM session WHERE account_id = :account", {"account": account_id}
    )
    return {row["id"]: row["last_sequence"] for row in rows}


def _moved_since(since_us: int) -> Unit[Sequence[Moved]]:
    rows = yield Statement(
        "SELECT id, account_id, last_sequence FROM session WHERE update_us > :since", {"since": since_us}
    )
    return [
        Moved(session_id=row["id"], account_id=row["account_id"], last_sequence=row["last_sequence"])
        for row in rows
    ]


def _last_sequence(session_id: str, account_id: str) -> Unit[int | None]:
    rows = yield Statement(
        "SELECT last_sequence FROM session WHERE id = :session AND account_id = :account",
        {"session": session_id, "account": account_id},
    )
    return rows[0]["last_sequence"] if rows else None
