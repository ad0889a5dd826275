"""Following one scope: what changed after a cursor, then each commit as it becomes durable.

A watch keeps its position and nothing else. What changed is read from the store each time the scope's bell rings,
and at each heartbeat, because another replica rings no bell here. A watch that takes its frames slowly costs one
page of rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Row, Unit
from context_svc import item_rows
from context_svc.context_items import Changed, require_scope
from context_svc.context_watch import Watchers
from context_svc.errors import CursorAhead, SessionNotFound
from context_svc.item_rows import Selection
from context_svc.items import Item, ItemState, Scope
from context_svc.readers import CloseReason

HEARTBEAT = 15.0  # seconds
PATIENCE = 30.0  # seconds that a reader may take for one frame
PAGE = 2_000  # rows; one commit never changes so many


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a reader stood, in the log of which epoch."""

    log_epoch: str
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """Everything there is, in place of all that the reader holds."""

    version: int
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """Nothing changed for a while."""

    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """The watch ends here; nothing follows."""

    version: int
    reason: CloseReason


Frame: TypeAlias = Whole | Changed | Beat | Closed


@dataclass(frozen=True, kw_only=True, slots=True)
class _News:
    frames: tuple[Whole | Changed, ...]
    version: int
    more: bool = False


class ContextFeed:
    """Opens watches. Another person's session is not found."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        watchers: Watchers,
        log_epoch: str,
        *,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._database = database
        self._clock = clock
        self._watchers = watchers
        self._log_epoch = log_epoch
        self._heartbeat = heartbeat

    async def frames(self, user: User, scope: Scope, after: Place | None) -> AsyncIterator[Frame]:
        """Everything from `after` on, to the end of the watch; without it the whole scope comes first.

        Raises SessionNotFound, SessionSealed, CursorAhead and TooManyStreams, all before the first frame.
        """
        with self._watchers.watcher(user, scope.id) as watcher:
            known = after is not None and after.log_epoch == self._log_epoch
            stands = after.version if after is not None and known else None
            news = await self._read(scope, stands)
            if stands is not None and stands > news.version:
                raise CursorAhead(metadata={"current": str(news.version)})
            while True:
                for frame in news.frames:
                    taken_after = self._clock.monotonic() + PATIENCE
                    yield frame
                    if self._clock.monotonic() > taken_after:
                        yield Closed(version=frame.version, reason=CloseReason.SLOW)
                        return
                stands = news.version
                if watcher.closed is None and not news.more and not await watcher.woken(self._heartbeat):
                    yield Beat(version=stands)
                if watcher.closed is not None:
                    yield Closed(version=stands, reason=watcher.closed)
                    return
                try:
                    news = await self._read(scope, stands)
                except SessionNotFound:
                    yield Closed(version=stands, reason=CloseReason.DELETED)
                    return

    async def _read(self, scope: Scope, after: int | None) -> _News:
        now_us = self._clock.now_us()
        return await self._database.read(lambda: _news(scope, after, now_us))


def _news(scope: Scope, after: int | None, now_us: int) -> Unit[_News]:
    yield from require_scope(scope)
    row = yield from item_rows.find(scope.id)
    if after is not None and after >= row.version:
        return _News(frames=(), version=row.version)
    if after is None or after < row.forgotten_version:
        items = yield from item_rows.live(scope, Selection(), now_us)
        return _News(frames=(Whole(version=row.version, items=tuple(items)),), version=row.version)
    rows = yield from item_rows.changed_after(scope.id, after, PAGE)
    commits = [list(found) for _, found in groupby(rows, key=lambda each: each["version"])]
    more = len(rows) == PAGE
    if more:
        commits.pop()  # it may go on behind the page
    told = [each for commit in commits if (each := _commit(scope, commit, now_us)) is not None]
    return _News(frames=tuple(told), version=commits[-1][0]["version"] if more else row.version, more=more)


def _commit(scope: Scope, rows: list[Row], now_us: int) -> Changed | None:
    """What one commit changed and no later one changed again; what has expired meanwhile is not shown."""
    live = [each for each in rows if each["state"] == ItemState.LIVE]
    items = [item_rows.item(each, scope.session_id) for each in live]
    shown = tuple(each for each in items if each.expire_us is None or each.expire_us > now_us)
    gone = tuple(item_rows.tombstone(each) for each in rows if each["state"] != ItemState.LIVE)
    if not shown and not gone:
        return None
    return Changed(scope=scope, version=rows[0]["version"], items=shown, tombstones=gone)
