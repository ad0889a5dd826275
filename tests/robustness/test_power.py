"""The power is cut at every write of a conversation: what was told to anybody is still there."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.session.v1 import session_pb2
from chassis import engines
from chassis.dial import streaming
from chassis.tasks import Tasks
from context_svc.schema import MIGRATIONS
from tests.interaction.context_svc.conversation_room import Room, room
from tests.robustness.power import Disk, Moments, RecordedDatabase, left_by, rows
from tests.robustness.table import tell

TURNS = {False: 6, True: 50}
STRIDE = {False: 9, True: 1}


@dataclass(slots=True)
class Told:
    """What clients were told, each with how many operations the disk had seen by then."""

    acknowledged: list[tuple[int, str]] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)


@asynccontextmanager
async def recorded(folder: Path, disk: Disk, synchronous: str) -> AsyncIterator[RecordedDatabase]:
    database = RecordedDatabase(folder / "t.db", disk, synchronous=synchronous)
    try:
        async with Tasks() as tasks:
            await database.run(tasks)
            yield database
            database.writer.close()
    finally:
        database.close()


async def converse(here: Room, disk: Disk, turns: int) -> Told:
    """Say things in one session, and note the moment of each answer."""
    told, session = Told(), await here.session()
    async with Tasks() as tasks:
        reading = tasks.spawn("read along", read_along(here, session, disk, told, turns))
        for number in range(turns):
            message = here.message(session, f"word {number}")
            request = chat_pb2.SendMessageRequest(message=message)
            [frame async for frame in here.stub.SendMessage(request, timeout=10)]
            told.acknowledged.append((disk.now(), message.client_message_id))
        await reading
    return told


async def read_along(here: Room, session: str, disk: Disk, told: Told, turns: int) -> None:
    request = chat_pb2.SubscribeEventsRequest(cursors=[session_pb2.SessionCursor(session_id=session)])
    async with streaming(here.stub.SubscribeEvents(request, timeout=60)) as call:
        async for frame in call:
            if frame.HasField("event"):
                told.seen.append((disk.now(), frame.event.sequence))
                turns -= frame.event.HasField("turn_finished")
            if turns == 0:
                return


@dataclass(kw_only=True, slots=True)
class Count:
    writes: int = 0
    cuts: int = 0
    images: int = 0
    lost: int = 0


async def cut_everywhere(folder: Path, *, turns: int, stride: int, synchronous: str) -> Count:
    disk = Disk()
    async with recorded(folder, disk, synchronous) as database, room(database) as here:
        told = await converse(here, disk, turns)
    chance, moments = random.Random(11), Moments(disk)
    count = Count(writes=sum(kind == "write" for kind, *_ in disk.operations))
    for cut in range(1, len(disk.operations) + 1):
        moments.advance(cut)
        if disk.operations[cut - 1][0] not in ("write", "truncate") or cut % stride:
            continue
        count.cuts += 1
        for image in moments.images(chance, variants=1):
            count.images += 1
            with tempfile.TemporaryDirectory(prefix="cut", dir="/dev/shm") as left:
                count.lost += lost(left_by(image, Path(left)), cut, told)
    return count


def lost(path: Path, cut: int, told: Told) -> int:
    """How much of what had been told by then is not in the store."""
    messages = {identity for moment, identity in told.acknowledged if moment <= cut}
    last = max((sequence for moment, sequence in told.seen if moment <= cut), default=0)
    try:
        kept = {row["id"] for row in rows(path, "SELECT id FROM message")} if messages else set()
        reached = rows(path, "SELECT coalesce(max(sequence), 0) AS last FROM event")[0]["last"] if last else 0
    except sqlite3.OperationalError:  # the tables themselves are gone
        return len(messages) + last
    return len(messages - kept) + max(0, last - reached)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.requirement("CHAT-4")
async def test_a_power_cut_at_any_write_loses_nothing_that_was_told(tmp_path: Path, long_loops: bool) -> None:
    turns, stride = TURNS[long_loops], STRIDE[long_loops]
    count = await cut_everywhere(tmp_path, turns=turns, stride=stride, synchronous="FULL")
    tell("power cuts", f"{count.cuts} at {count.writes} writes, {count.images} images", count.lost)
    assert count.cuts > turns
    assert not count.lost


@pytest.mark.slow
@pytest.mark.requirement("CHAT-4")
async def test_the_power_cut_sees_what_a_weaker_setting_loses(tmp_path: Path) -> None:
    count = await cut_everywhere(tmp_path, turns=4, stride=29, synchronous="NORMAL")
    assert count.lost


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.requirement("OPS-5")
async def test_a_power_cut_between_migrations_leaves_a_store_that_is_brought_forward(
    tmp_path: Path, long_loops: bool
) -> None:
    disk = Disk()
    async with recorded(tmp_path, disk, "FULL") as database:
        await database.migrate(MIGRATIONS)
    chance, moments, opened = random.Random(5), Moments(disk), 0
    for cut in range(1, len(disk.operations) + 1):
        moments.advance(cut)
        if cut % (1 if long_loops else 53):
            continue
        for image in moments.images(chance, variants=1):
            with tempfile.TemporaryDirectory(prefix="cut", dir="/dev/shm") as left:
                path = left_by(image, Path(left))
                async with engines.connect(f"sqlite://{path}", schema="") as again:
                    await again.migrate(MIGRATIONS)
                opened += 1
    tell("power cuts during migrations", f"{opened} images brought forward", 0)
    assert opened > 10
