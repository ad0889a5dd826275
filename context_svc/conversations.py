"""The conversation, as every door sees it: send, follow, read, stop. Transport-neutral.

The doors (gRPC, grpc-web, JSON, later MCP) decode what they get, call here, and encode what they are given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from chassis import call, ids
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Unit
from chassis.errors import InvalidRequest, ScopeMissing, ServiceError, Violation
from chassis.tasks import Tasks
from context_svc.acknowledgements import acknowledge
from context_svc.entrance import Entrance, Opening
from context_svc.errors import CursorAhead, FrameUnexpected
from context_svc.journal import ENDINGS, Entry
from context_svc.messages import require_session
from context_svc.paging import fitting
from context_svc.readers import Closed, CloseReason, Frame, Reader, Readers, Refused
from context_svc.runs import Runs
from context_svc.schedule import Schedule
from context_svc.snapshots import Cursor, Snapshot, read_on
from context_svc.turn_rows import TurnState
from context_svc.turns import Accepted, Cancelled, Submission, Turns
from context_svc.waiting import Reply

APPROVE = "approve"  # the scope of a token that may answer approvals


@dataclass(frozen=True, kw_only=True, slots=True)
class EventPage:
    """A page of a log. `next` is where to go on."""

    entries: tuple[Entry, ...]
    next: Cursor
    at_end: bool
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A client says what it wants to follow."""

    cursors: tuple[Cursor, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A client sends a message."""

    submission: Submission


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """A client stops a turn."""

    session_id: str
    turn_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Replied:
    """A client answers what a turn waits for."""

    reply: Reply


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A client sent a frame that breaks the contract's rules, or that this server does not serve."""

    client_id: str
    error: ServiceError


@dataclass(frozen=True, slots=True)
class Shown:
    """A client says what it has shown to its person."""

    cursors: tuple[Cursor, ...]


Incoming: TypeAlias = Opened | Said | Stopped | Replied | Shown | Unreadable


def unreadable(client_id: str, found: Sequence[Violation]) -> Unreadable:
    """A frame with these violations."""
    return Unreadable(client_id=client_id, error=InvalidRequest(violations=found))


class Conversations:
    """What an account can do with its sessions' logs. Every method checks that the session is the account's."""

    def __init__(
        self,
        *,
        database: Database,
        turns: Turns,
        readers: Readers,
        schedule: Schedule,
        runs: Runs,
        clock: Clock,
        log_epoch: str,
    ) -> None:
        self._database = database
        self._turns = turns
        self._readers = readers
        self._schedule = schedule
        self._runs = runs
        self._clock = clock
        self._log_epoch = log_epoch
        self.entrance = Entrance(
            database=database, readers=readers, schedule=schedule, runs=runs, clock=clock
        )

    async def accept(self, submission: Submission, reader: Reader | None = None) -> Accepted:
        """Store a message, durable on return, or find its turn. `reader` follows the session from there on.

        Raises what `Turns.accept` raises.
        """
        return await self.entrance.begin(self._opening(submission), reader)

    async def send(self, user: User, submission: Submission, *, follow: bool) -> AsyncIterator[Frame]:
        """Accept a message, then (to `follow`) everything of its turn up to its last event."""
        async for frame in self.entrance.follow(user, self._opening(submission), follow=follow):
            yield frame

    async def events(
        self, user: User, cursors: Sequence[Cursor], *, all_sessions: bool
    ) -> AsyncIterator[Frame]:
        """Follow logs. Raises SessionNotFound, CursorAhead and TooManyStreams."""
        with self._readers.reader(user, all_sessions=all_sessions) as reader:
            if all_sessions:
                await self._readers.begin(reader)
            for cursor in cursors:
                await self._readers.follow(reader, cursor)
            async for frame in reader.frames():
                yield frame

    async def converse(self, user: User, incoming: AsyncIterator[Incoming]) -> AsyncIterator[Frame]:
        """The native door: everything on one stream. What is wrong with a frame is answered in-band.

        When the client ends its side, the stream ends after the turns that were opened on it.
        """
        with self._readers.reader(user) as reader:
            hearing = _Hearing(reader)
            async with Tasks() as tasks:
                tasks.spawn("hear a client", self._hear(user, hearing, incoming))
                async for frame in reader.frames():
                    yield frame
                    hearing.noticed(frame)

    async def page(self, user: User, cursor: Cursor, *, limit: int, wait_seconds: float) -> EventPage:
        """A page of a log, waiting for the next event when there is none yet.

        Raises SessionNotFound and CursorAhead.
        """
        page = await self._page(user.account, cursor, limit)
        if page.entries or page.snapshot or wait_seconds <= 0:
            return page
        with self._readers.reader(user) as reader:
            await self._readers.follow(reader, page.next)
            await _first_entry(reader, wait_seconds)
        return await self._page(user.account, page.next, limit)

    async def cancel(self, user: User, session_id: str, turn_id: str, *, request_id: str) -> TurnState:
        """Stop a turn; durable on return. Raises TurnNotFound and TurnOver."""

        def unit() -> Unit[Cancelled]:
            return self._turns.cancel(
                user.account,
                session_id,
                turn_id,
                request_id=request_id,
                device_id=user.sign_in,
                now_us=self._clock.now_us(),
            )

        cancelled = await self._database.write(
            session_id, unit, committed=lambda done: self._readers.publish(done.entries)
        )
        self._runs.stop(turn_id, user.sign_in)
        return cancelled.state

    async def respond(self, user: User, reply: Reply) -> TurnState:
        """Answer what a turn waits for; durable on return, says where the turn stands then.

        Raises what `Waiting.respond` raises, and ScopeMissing for a token that may not approve.
        """
        if user.scopes and APPROVE not in user.scopes:  # on the native door the token's scope is that of Chat
            raise ScopeMissing(metadata={"scope": APPROVE})
        state = await self._database.write(
            reply.session_id, lambda: self._turns.waiting.respond(reply, self._clock.now_us())
        )
        self._schedule.wake(reply.session_id, user.account)
        return state

    async def acknowledge(self, user: User, cursors: Sequence[Cursor]) -> tuple[Cursor, ...]:
        """Note what the person's device has shown; answers what is stored now.

        Raises SessionNotFound and CursorAhead, and then nothing is noted.
        """
        order = sorted(cursors, key=lambda each: each.session_id)

        def unit() -> Unit[tuple[Cursor, ...]]:
            stored = []
            for cursor in order:
                stored.append(replace(cursor, sequence=(yield from acknowledge(user, cursor))))
            return tuple(stored)

        return await self._database.write(order[0].session_id, unit)

    def _opening(self, submission: Submission) -> Opening:
        def unit(now_us: int) -> Unit[Accepted]:
            return self._turns.accept(submission, turn_id=ids.uuid(), answer_id=ids.uuid(), now_us=now_us)

        return Opening(account_id=submission.account_id, session_id=submission.session_id, unit=unit)

    async def _page(self, account_id: str, cursor: Cursor, limit: int) -> EventPage:
        last = await self._database.read(lambda: require_session(account_id, cursor.session_id))
        if cursor.log_epoch in ("", self._log_epoch) and cursor.sequence > last:
            raise CursorAhead(metadata={"last_sequence": str(last)})
        entries = await self._database.read(lambda: read_on(account_id, cursor, self._log_epoch, limit))
        if isinstance(entries, Snapshot):
            return EventPage(entries=(), next=entries.through, at_end=True, snapshot=entries)
        shown = entries[: fitting((len(entry.data) for entry in entries), limit)]
        reached = shown[-1].sequence if shown else cursor.sequence
        return EventPage(
            entries=shown,
            next=Cursor(session_id=cursor.session_id, log_epoch=self._log_epoch, sequence=reached),
            at_end=len(entries) < limit and len(shown) == len(entries),
        )

    async def _hear(self, user: User, hearing: _Hearing, incoming: AsyncIterator[Incoming]) -> None:
        async for frame in incoming:
            try:
                await self._answer(user, hearing, frame)
            except ServiceError as error:
                hearing.reader.say(Refused(_client_id(frame), error, call.current().request_id))
        hearing.silent()

    async def _answer(self, user: User, hearing: _Hearing, frame: Incoming) -> None:
        if not isinstance(frame, Unreadable):
            hearing.expect(opening=isinstance(frame, Opened))
        match frame:
            case Opened(cursors):
                for cursor in cursors:
                    await self._readers.follow(hearing.reader, cursor)
            case Said(submission):
                accepted = await self.accept(submission, hearing.reader)
                hearing.open_turns.add(accepted.turn_id)
                if not hearing.reader.follows(submission.session_id):
                    self._readers.follow_known(
                        hearing.reader, submission.session_id, accepted.entry.sequence - 1
                    )
            case Stopped(session_id=session_id, turn_id=turn_id, request_id=request_id):
                await self.cancel(user, session_id, turn_id, request_id=request_id)
            case Replied(reply):
                await self.respond(user, reply)
            case Shown(cursors):
                await self.acknowledge(user, cursors)
            case Unreadable(error=error):
                raise error
            case _:
                assert_never(frame)


class _Hearing:
    """What a Chat stream's client has asked for so far."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.open_turns: set[str] = set()
        self._opened = False
        self._silent = False

    def expect(self, *, opening: bool) -> None:
        """Check that `open` comes first, once. Raises FrameUnexpected."""
        if opening is self._opened:
            raise FrameUnexpected
        self._opened = True

    def silent(self) -> None:
        """The client has ended its side."""
        self._silent = True
        self._close_when_done()

    def noticed(self, frame: Frame) -> None:
        """A frame was sent to the client."""
        if isinstance(frame, Entry) and frame.kind in ENDINGS:
            self.open_turns.discard(frame.turn_id)
            self._close_when_done()

    def _close_when_done(self) -> None:
        if self._silent and not self.open_turns:
            self.reader.close(CloseReason.DONE)


async def _first_entry(reader: Reader, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            async for frame in reader.frames():
                if isinstance(frame, Entry | Closed):
                    return
    except TimeoutError:
        pass


def _client_id(frame: Incoming) -> str:
    match frame:
        case Said(submission):
            return submission.message_id
        case Stopped(request_id=request_id):
            return request_id
        case Replied(reply):
            return reply.key.request_id
        case Unreadable(client_id=client_id):
            return client_id
        case Opened() | Shown():
            return ""
        case _:
            assert_never(frame)
