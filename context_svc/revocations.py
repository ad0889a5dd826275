"""The feed of ended sign-ins: the whole state first, then each change, and a sign of life in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TypeAlias

from chassis.auth import Revocations
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from context_svc.signing import LIFETIME, PublicKey, Renewal

HEARTBEAT = timedelta(seconds=2)
LONGEST = timedelta(minutes=60)
_FORGET = LIFETIME + timedelta(minutes=1)  # a room's clock may be behind
_BEHIND_US = 60_000_000
_OUTBOX = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedSignIn:
    """A sign-in or API token that was ended while tokens of it may still be unexpired. Times in microseconds.

    `expire_us` is set for an API token, which is its own last token.
    """

    sign_in: str
    account: str
    end_us: int
    expire_us: int | None = None

    @property
    def forget_us(self) -> int:
        """When its last token has expired by itself."""
        if self.expire_us is not None:
            return self.expire_us + _BEHIND_US
        return self.end_us + round(_FORGET.total_seconds() * 1e6)


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedAccount:
    """An account that was deleted while tokens of it may still be unexpired. Times in microseconds."""

    account: str
    end_us: int
    forget_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """Everything a room needs to judge a token; replaces what it holds."""

    keys: tuple[PublicKey, ...]
    sign_ins: tuple[EndedSignIn, ...]
    accounts: tuple[EndedAccount, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What one commit ended, or which keys a look at them changed."""

    sign_ins: tuple[EndedSignIn, ...] = ()
    accounts: tuple[EndedAccount, ...] = ()
    keys: tuple[PublicKey, ...] = ()
    retired_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing changed."""


class CloseReason(Enum):
    """Why the feed ends."""

    DRAINING = "draining"
    EXPIRED = "expired"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Closed:
    """The last frame."""

    reason: CloseReason


Frame: TypeAlias = State | Change | Heartbeat | Closed


@dataclass(frozen=True, kw_only=True, slots=True)
class Watcher:
    """A room that holds the feed. `since_us` in microseconds since 1970."""

    room: str
    instance: str
    version: str
    since_us: int


class Feed:
    """Knows which sign-ins have ended, and tells this room's own check and every other room.

    `ended` is called when an end is durable. Readers are told in that order; one that does not keep up is
    closed as SLOW and takes the whole state anew.
    """

    def __init__(
        self,
        clock: Clock,
        own: Revocations,
        keys: Sequence[PublicKey],
        *,
        heartbeat: timedelta = HEARTBEAT,
        longest: timedelta = LONGEST,
    ) -> None:
        self._clock = clock
        self._own = own
        self._keys = tuple(keys)
        self._heartbeat = heartbeat.total_seconds()
        self._longest = longest.total_seconds()
        self._ended: dict[str, EndedSignIn] = {}
        self._accounts: dict[str, EndedAccount] = {}
        self._outboxes: set[asyncio.Queue[Change | Closed]] = set()
        self._watchers: dict[int, Watcher] = {}

    async def load(self, database: Database) -> None:
        """Take up what ended before this process began, as far as it still matters."""
        since_us = self._clock.now_us() - round(_FORGET.total_seconds() * 1e6)
        tokens_us = self._clock.now_us() - _BEHIND_US
        ended = await database.read(lambda: _ended_since(since_us))
        for each in (*ended, *await database.read(lambda: _ended_tokens(tokens_us))):
            self._ended[each.sign_in] = each
        now_us = self._clock.now_us()
        for gone in await database.read(lambda: _ended_accounts(now_us)):
            self._accounts[gone.account] = gone
        self._tell_own()

    async def catch_up(self, database: Database) -> None:
        """Take up what other processes ended; readers hear of it as of an end of our own."""
        now_us = self._clock.now_us()
        since_us = now_us - round(_FORGET.total_seconds() * 1e6)
        found = await database.read(lambda: _ended_since(since_us))
        found += await database.read(lambda: _ended_tokens(now_us - _BEHIND_US))
        gone = await database.read(lambda: _ended_accounts(now_us))
        self.ended(
            (each for each in found if each.sign_in not in self._ended),
            (each for each in gone if each.account not in self._accounts),
        )

    def ended(self, sign_ins: Iterable[EndedSignIn], accounts: Iterable[EndedAccount] = ()) -> None:
        """These sign-ins and accounts have ended, durably."""
        news = Change(sign_ins=tuple(sign_ins), accounts=tuple(accounts))
        if not news.sign_ins and not news.accounts:
            return
        self._forget()
        self._ended |= {each.sign_in: each for each in news.sign_ins}
        self._accounts |= {each.account: each for each in news.accounts}
        self._tell_own()
        self._send(news)

    def rekeyed(self, keys: Sequence[PublicKey], renewal: Renewal) -> None:
        """The keys that count are these from now on; `renewal` says what of them is news."""
        self._keys = tuple(keys)
        self._send(Change(keys=renewal.changed, retired_keys=renewal.retired))

    def drain(self) -> None:
        """End every feed: this process is about to stop."""
        self._send(Closed(CloseReason.DRAINING))

    def watchers(self) -> tuple[Watcher, ...]:
        """The rooms that hold the feed now, by name."""
        return tuple(sorted(self._watchers.values(), key=lambda each: (each.room, each.instance)))

    async def watch(self, *, room: str, instance: str, version: str) -> AsyncIterator[Frame]:
        """The feed for one room: State first, Closed last."""
        end = self._clock.monotonic() + self._longest
        with self._outbox() as outbox, self._watching(room, instance, version):
            yield State(
                keys=self._keys,
                sign_ins=tuple(self._ended.values()),
                accounts=tuple(self._accounts.values()),
            )
            while self._clock.monotonic() < end:
                frame = await self._next(outbox)
                yield frame
                if isinstance(frame, Closed):
                    return
            yield Closed(CloseReason.EXPIRED)

    async def changes(self) -> AsyncIterator[Change]:
        """Each end from now on, for streams of this room that have to be cut.

        Ends when the feed is drained, or when its reader does not keep up: then trust no open stream.
        """
        with self._outbox() as outbox:
            while isinstance(frame := await outbox.get(), Change):
                yield frame

    async def _next(self, outbox: asyncio.Queue[Change | Closed]) -> Frame:
        try:
            async with asyncio.timeout(self._heartbeat):
                return await outbox.get()
        except TimeoutError:
            return Heartbeat()

    @contextmanager
    def _outbox(self) -> Iterator[asyncio.Queue[Change | Closed]]:
        outbox: asyncio.Queue[Change | Closed] = asyncio.Queue(_OUTBOX)
        self._outboxes.add(outbox)
        try:
            yield outbox
        finally:
            self._outboxes.discard(outbox)

    @contextmanager
    def _watching(self, room: str, instance: str, version: str) -> Iterator[None]:
        watcher = Watcher(room=room, instance=instance, version=version, since_us=self._clock.now_us())
        self._watchers[id(watcher)] = watcher
        try:
            yield
        finally:
            del self._watchers[id(watcher)]

    def _send(self, frame: Change | Closed) -> None:
        for outbox in tuple(self._outboxes):
            try:
                outbox.put_nowait(frame)
            except asyncio.QueueFull:
                _overflow(outbox)
                self._outboxes.discard(outbox)

    def _forget(self) -> None:
        now_us = self._clock.now_us()
        self._ended = {key: each for key, each in self._ended.items() if each.forget_us > now_us}
        self._accounts = {key: each for key, each in self._accounts.items() if each.forget_us > now_us}

    def _tell_own(self) -> None:
        self._own.replace(sign_ins=self._ended, accounts=self._accounts)


def forget_us(end_us: int, last_token_us: int) -> int:
    """When the last token of an account that ended then has expired by itself."""
    return max(end_us + round(_FORGET.total_seconds() * 1e6), last_token_us + _BEHIND_US)


def _overflow(outbox: asyncio.Queue[Change | Closed]) -> None:
    while not outbox.empty():
        outbox.get_nowait()
    outbox.put_nowait(Closed(CloseReason.SLOW))


def _ended_since(since_us: int) -> Unit[list[EndedSignIn]]:
    rows = yield Statement(
        "SELECT id, account_id, end_us FROM sign_in WHERE end_us > :since_us ORDER BY end_us, id",
        {"since_us": since_us},
    )
    return [EndedSignIn(sign_in=row["id"], account=row["account_id"], end_us=row["end_us"]) for row in rows]


def _ended_accounts(now_us: int) -> Unit[list[EndedAccount]]:
    rows = yield Statement(
        "SELECT account_id, create_us, forget_us FROM deletion WHERE forget_us > :now_us ORDER BY create_us",
        {"now_us": now_us},
    )
    return [
        EndedAccount(account=row["account_id"], end_us=row["create_us"], forget_us=row["forget_us"])
        for row in rows
    ]


def _ended_tokens(unexpired_us: int) -> Unit[list[EndedSignIn]]:
    rows = yield Statement(
        "SELECT id, account_id, end_us, expire_us FROM api_token WHERE end_us IS NOT NULL"
        " AND expire_us > :unexpired_us ORDER BY end_us, id",
        {"unexpired_us": unexpired_us},
    )
    return [
        EndedSignIn(
            sign_in=row["id"], account=row["account_id"], end_us=row["end_us"], expire_us=row["expire_us"]
        )
        for row in rows
    ]
