"""Where turns begin: what opens one is durable, announced and, when its session is free, claimed in one commit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from chassis import failpoints
from chassis.call import User
from chassis.clock import Clock
from chassis.database import ConstraintFailed, Database, Unit
from chassis.tasks import Tasks
from context_svc.journal import ENDINGS, Entry, Kind
from context_svc.readers import Beat, Frame, Reader, Readers
from context_svc.runs import Material, Runs
from context_svc.schedule import Schedule
from context_svc.snapshots import Snapshot
from context_svc.turns import Accepted


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """Something that opens a turn: `unit` stores it at the given time, or finds what an earlier call stored."""

    account_id: str
    session_id: str
    unit: Callable[[int], Unit[Accepted]]


class Entrance:
    """Lets turns in."""

    def __init__(
        self, *, database: Database, readers: Readers, schedule: Schedule, runs: Runs, clock: Clock
    ) -> None:
        self._database = database
        self._readers = readers
        self._schedule = schedule
        self._runs = runs
        self._clock = clock
        self._tasks = Tasks()

    async def begin(self, opening: Opening, reader: Reader | None = None) -> Accepted:
        """Open a turn, durable on return; a new one is claimed in the same commit when its session is free.

        `reader` follows the session from there on. Raises what the unit raises. A caller that goes away meanwhile
        stops nothing: what is committed is also begun.
        """
        return await self._tasks.whole("open a turn", self._begin(opening, reader))

    async def _begin(self, opening: Opening, reader: Reader | None) -> Accepted:
        began = self._clock.monotonic()
        place = self._schedule.place(opening.session_id, opening.account_id)
        try:
            accepted, material = await self._once(opening, reader, wanted=place is not None)
        except BaseException:
            self._schedule.give_back(place)
            raise
        if not accepted.joined:
            self._runs.arrivals.note(accepted.turn_id, self._clock.monotonic() - began)
        self._schedule.start(place, material)
        if not accepted.joined:
            self._schedule.wake(opening.session_id, opening.account_id)
        for turn_id in accepted.interrupted.running if accepted.interrupted else ():
            self._runs.stop(turn_id, "")
        return accepted

    async def follow(self, user: User, opening: Opening, *, follow: bool) -> AsyncIterator[Frame]:
        """Open a turn, then (to `follow`) tell everything of it up to its last event."""
        if not follow:
            yield (await self.begin(opening)).entry
            failpoints.reach("after_ack")
            return
        with self._readers.reader(user) as reader:
            accepted = await self.begin(opening, reader)
            yield accepted.entry
            if accepted.joined:
                self._readers.follow_known(reader, opening.session_id, accepted.entry.sequence)
            async for frame in _of_turn(reader, accepted.turn_id):
                yield frame

    async def _once(
        self, opening: Opening, reader: Reader | None, *, wanted: bool
    ) -> tuple[Accepted, Material | None]:
        def unit() -> Unit[tuple[Accepted, Material | None]]:
            now_us = self._clock.now_us()
            accepted = yield from opening.unit(now_us)
            if accepted.joined or not wanted:
                return accepted, None
            return accepted, (yield from self._schedule.take(opening.session_id, now_us))

        def announce(done: tuple[Accepted, Material | None]) -> None:
            self._announce(done[0], reader)

        try:
            return await self._database.write(opening.session_id, unit, committed=announce)
        except ConstraintFailed:  # another replica stored the same id, or claimed a turn, in the same moment
            return await self._database.write(opening.session_id, unit, committed=announce)

    def _announce(self, accepted: Accepted, reader: Reader | None) -> None:
        if accepted.joined:
            return
        first = accepted.before[0] if accepted.before else accepted.entry
        if reader is not None and not reader.follows(first.session_id):
            self._readers.follow_known(reader, first.session_id, first.sequence - 1, to_the_end=False)
        also = accepted.interrupted.entries if accepted.interrupted else ()
        self._readers.publish((*accepted.before, accepted.entry, *also))


async def _of_turn(reader: Reader, turn_id: str) -> AsyncIterator[Frame]:
    """The frames of one turn after its TurnAccepted, up to its last event."""
    opening = True
    async for frame in reader.frames():
        if isinstance(frame, Entry) and (frame.turn_id != turn_id or frame.kind == Kind.TURN_ACCEPTED):
            continue
        if not (opening and isinstance(frame, Beat)):
            yield frame
        opening = False
        if isinstance(frame, Entry) and frame.kind in ENDINGS:
            return
        if isinstance(frame, Snapshot) and turn_id not in {turn.turn_id for turn in frame.open_turns}:
            return
