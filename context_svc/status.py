"""The state of the mesh as this room sees it: itself, and which rooms hold its feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chassis import ids
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.errors import StoreUnavailable
from context_svc.accounts import Accounts
from context_svc.meta import Mesh
from context_svc.revocations import Feed, Watcher
from context_svc.turn_rows import TurnState

ROOM = "context_svc"
_NEED_FEED = frozenset({"llm", "media"})  # the rooms that people call


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomSeen:
    """One process of a room. What is None is not known here. Times in microseconds since 1970."""

    name: str
    instance: str
    version: str
    serving: bool | None
    parts: Mapping[str, bool]
    open_streams: int | None
    start_us: int | None
    heard_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What `mesh status` begins with. Healthy: this room serves and those that people call hold the feed."""

    version: str
    healthy: bool
    rooms: tuple[RoomSeen, ...]
    setup_needed: bool
    turns: Mapping[TurnState, int]
    log_epoch: str
    read_us: int


class StatusBoard:
    """Answers GetStatus."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        accounts: Accounts,
        feed: Feed,
        mesh: Mesh,
        version: str,
        open_streams: Callable[[], int],
    ) -> None:
        self._open_streams = open_streams
        self._database = database
        self._clock = clock
        self._accounts = accounts
        self._feed = feed
        self._mesh = mesh
        self._version = version
        self._instance = ids.uuid()
        self._start_us = clock.now_us()

    async def read(self) -> Status:
        """The state now. Raises StoreUnavailable when the database does not answer at all."""
        now_us = self._clock.now_us()
        store = await self._store_answers()
        watchers = self._feed.watchers()
        return Status(
            version=self._version,
            healthy=store and {each.room for each in watchers} >= _NEED_FEED,
            rooms=(self._self(store, now_us), *(_seen(each, now_us) for each in watchers)),
            setup_needed=not await self._accounts.exist(),
            turns=await self._database.read(_count_open_turns),
            log_epoch=self._mesh.log_epoch,
            read_us=now_us,
        )

    async def _store_answers(self) -> bool:
        try:
            await self._database.ready()
        except StoreUnavailable:
            return False
        return True

    def _self(self, store: bool, now_us: int) -> RoomSeen:
        return RoomSeen(
            name=ROOM,
            instance=self._instance,
            version=self._version,
            serving=store,
            parts={"database": store},
            open_streams=self._open_streams(),
            start_us=self._start_us,
            heard_us=now_us,
        )


def _count_open_turns() -> Unit[Mapping[TurnState, int]]:
    rows = yield Statement("SELECT state, COUNT(*) AS number FROM turn WHERE state < 5 GROUP BY state")
    return {TurnState(row["state"]): row["number"] for row in rows}


def _seen(watcher: Watcher, now_us: int) -> RoomSeen:
    return RoomSeen(
        name=f"{watcher.room}_svc",
        instance=watcher.instance,
        version=watcher.version,
        serving=None,
        parts={},
        open_streams=None,
        start_us=None,
        heard_us=now_us,
    )
