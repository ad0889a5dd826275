"""What a store that fails, a process that dies and time that passes leave behind."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from assistant.media.v1 import media_pb2 as pb
from chassis import engines
from chassis.database import Database, Statement, Unit
from chassis.errors import StoreUnavailable
from chassis.tasks import Tasks
from chassis.testing import SOON, FakeClock
from media_svc import outbox
from media_svc.blobs import Blobs, open_blobs
from media_svc.checking import Checks
from media_svc.errors import MediaNotFound, UploadNotFound
from media_svc.intake import Intake
from media_svc.kinds import Limits
from media_svc.schema import MIGRATIONS
from media_svc.shelf import Shelf, Variant
from media_svc.sweeping import Sweeper
from media_svc.uploads import Announced, State
from tests.conftest import Place
from tests.interaction.media_svc.mesh import CHUNK, Mesh, Starter, header_of
from tests.unit.media_svc.samples import png

LARGE = png(filler=random.Random(9).randbytes(700_000))
DAY = timedelta(hours=24)


class Faulty:
    """A store that obeys until a test says what fails."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.fails: Callable[[str, str], bool] = lambda act, key: False

    def _try(self, act: str, key: str) -> None:
        if self.fails(act, key):
            raise StoreUnavailable("told to fail")

    async def put(self, key: str, content: bytes | BinaryIO) -> None:
        self._try("put", key)
        await self._blobs.put(key, content)

    async def read(self, key: str, *, offset: int = 0, length: int) -> AsyncIterator[bytes]:
        self._try("read", key)
        async for piece in self._blobs.read(key, offset=offset, length=length):
            yield piece

    async def remove(self, key: str) -> None:
        self._try("remove", key)
        await self._blobs.remove(key)

    async def ready(self) -> None:
        await self._blobs.ready()


class House:
    """The room's own nouns over a real database and a folder, without its socket."""

    def __init__(self, database: Database, folder: Path, tasks: Tasks, clock: FakeClock) -> None:
        self.database = database
        self.clock = clock
        self.folder = folder / "blobs"
        self.blobs = Faulty(open_blobs(f"file://{self.folder}"))
        limits, due = Limits(image=2**25, audio=2**25, document=2**25), asyncio.Event()
        self.checks = checks = Checks(database, self.blobs, tasks, clock, limits=limits, work=folder, due=due)
        self.sweeper = Sweeper(database, self.blobs, checks, clock, due)
        self.intake = Intake(database, self.blobs, checks, clock, limits=limits, quota=0)
        self.shelf = Shelf(database, self.blobs, self.sweeper, clock, quota=0)

    def kept(self, below: str = "") -> list[Path]:
        return [Path(above, name) for above, _, names in os.walk(self.folder / below) for name in names]

    async def owed(self) -> int:
        """How many removals wait."""

        def count() -> Unit[int]:
            rows = yield Statement("SELECT COUNT(*) AS many FROM blob_removal")
            many: int = rows[0]["many"]
            return many

        return await self.database.read(count)


@asynccontextmanager
async def opened(place: Place, folder: Path, clock: FakeClock) -> AsyncIterator[House]:
    async with engines.connect(place.url, schema=place.schema, clock=clock) as database, Tasks() as tasks:
        await database.migrate(MIGRATIONS)
        yield House(database, folder, tasks, clock)


@pytest.fixture
async def house(database_place: Place, tmp_path: Path) -> AsyncIterator[House]:
    async with opened(database_place, tmp_path, FakeClock()) as house:
        yield house


class Program:
    """media_svc as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, stack: AsyncExitStack) -> None:
        self._process = process
        self.stack = stack

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def wait(self) -> int:
        async with asyncio.timeout(20):
            return await self._process.wait()


@asynccontextmanager
async def program(mesh: Mesh) -> AsyncIterator[Program]:
    settings = mesh.settings()
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MEDIA_LISTEN": settings.listen,
        "MEDIA_CONTEXT": settings.context,
        "MEDIA_KEYS_DIR": str(settings.keys_dir),
        "MEDIA_DATA_DIR": str(settings.data_dir),
        "MEDIA_DATABASE": settings.database.get_secret_value(),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "media_svc", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with AsyncExitStack() as stack:
            yield Program(process, stack)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def announced(data: bytes, request_id: str = "r") -> Announced:
    header = header_of(data)
    return Announced(
        request_id=request_id,
        size=header.size,
        sha256=header.sha256,
        file_name="",
        mime_type="",
        local_only=False,
    )


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_file_is_checked_again_when_the_store_failed_in_the_middle(house: House) -> None:
    upload = await house.intake.open("ada", announced(LARGE))
    house.blobs.fails = lambda act, key: act == "put" and key.startswith("kept/")
    with pytest.raises(StoreUnavailable):
        await house.intake.write("ada", upload.id, 0, LARGE)
    checking = await house.intake.find("ada", upload.id)
    assert (checking.state, checking.received) == (State.CHECKING, len(LARGE))
    house.blobs.fails = lambda act, key: False
    await house.sweeper.sweep()
    found = await house.checks.wait(checking, SOON)
    assert found.media is not None
    assert len(house.kept("kept")) == 1


async def test_a_chunk_whose_bytes_were_not_kept_is_not_counted(house: House) -> None:
    upload = await house.intake.open("ada", announced(LARGE))
    house.blobs.fails = lambda act, key: act == "put"
    with pytest.raises(StoreUnavailable):
        await house.intake.write("ada", upload.id, 0, LARGE[:CHUNK])
    house.blobs.fails = lambda act, key: False
    assert (await house.intake.find("ada", upload.id)).received == 0


@pytest.mark.requirement("MED-1")
async def test_a_removal_is_tried_again_until_the_store_obeys(house: House) -> None:
    media = await house.intake.receive("ada", announced(LARGE), once(LARGE))
    await house.sweeper.sweep()
    house.blobs.fails = lambda act, key: act == "remove"
    await house.shelf.delete("ada", media.id, allow_missing=False)
    for _ in range(3):
        await house.sweeper.sweep()
        await house.clock.advance(timedelta(minutes=10))
    assert (len(house.kept()), await house.owed()) == (1, 1)
    house.blobs.fails = lambda act, key: False
    await house.sweeper.sweep()
    assert (house.kept(), await house.owed()) == ([], 0)


@pytest.mark.requirement("MED-1")
async def test_what_nothing_names_within_24_hours_is_gone(house: House) -> None:
    media = await house.intake.receive("ada", announced(LARGE), once(LARGE))
    half = await house.intake.open("ada", announced(b"half a text", "h"))
    await house.intake.write("ada", half.id, 0, b"half")
    await house.clock.advance(DAY - timedelta(seconds=1))
    await house.sweeper.sweep()
    assert (await house.shelf.find("ada", media.id)).id == media.id
    assert (await house.intake.find("ada", half.id)).received == 4
    await house.clock.advance(timedelta(seconds=2))
    with pytest.raises(MediaNotFound):
        await house.shelf.find("ada", media.id)
    with pytest.raises(UploadNotFound):
        await house.intake.write("ada", half.id, 4, b" a text")
    await house.sweeper.sweep()
    assert (house.kept(), await house.owed()) == ([], 0)


async def test_sending_a_file_again_begins_its_24_hours_anew(house: House) -> None:
    media = await house.intake.receive("ada", announced(LARGE), once(LARGE))
    await house.clock.advance(DAY - timedelta(seconds=1))
    again = await house.intake.open("ada", announced(LARGE, "again"))
    await house.clock.advance(timedelta(hours=1))
    await house.sweeper.sweep()
    assert again.media is not None
    assert (await house.shelf.find("ada", media.id)).id == media.id


async def test_an_expired_request_id_may_be_used_again(house: House) -> None:
    first = await house.intake.open("ada", announced(b"one"))
    await house.clock.advance(DAY)
    second = await house.intake.open("ada", announced(b"two"))
    assert second.id != first.id


async def test_bytes_kept_for_a_commit_that_never_came_are_swept(house: House) -> None:
    real = house.database.write

    async def dying(aggregate: str, unit: Callable[[], Unit[object]], **rest: object) -> object:
        if house.kept("kept"):
            raise StoreUnavailable("died before the commit")
        return await real(aggregate, unit)

    upload = await house.intake.open("ada", announced(b"text"))
    house.database.write = dying  # type: ignore[assignment]
    with pytest.raises(StoreUnavailable):
        await house.intake.write("ada", upload.id, 0, b"text")
    house.database.write = real  # type: ignore[method-assign]
    (orphan,) = house.kept("kept")
    finished = await house.intake.write("ada", upload.id, 0, b"text")
    assert len(house.kept("kept")) == 2
    await house.clock.advance(timedelta(hours=1, seconds=1))
    await house.sweeper.sweep()
    assert not orphan.exists()
    assert finished.media is not None
    reading = await house.shelf.read("ada", finished.media.id, Variant.STORED, offset=0, length=0)
    assert b"".join([piece async for piece in reading.pieces]) == b"text"


async def test_a_removal_that_has_begun_cannot_be_taken_back(house: House) -> None:
    now = house.clock.now_us()
    await house.database.write("t", lambda: outbox.schedule("kept/o/a", now))
    assert await house.database.write("t", lambda: outbox.take_due(now)) == ["kept/o/a"]
    assert await house.database.write("t", lambda: outbox.withdraw("kept/o/a")) is False
    await house.database.write("t", lambda: outbox.schedule("kept/o/b", now + 1))
    assert await house.database.write("t", lambda: outbox.withdraw("kept/o/b")) is True


@pytest.mark.slow
@pytest.mark.requirement("MED-1")
async def test_an_upload_goes_on_after_the_process_was_killed_between_chunks(mesh: Mesh) -> None:
    async with program(mesh) as process:
        room = Starter(mesh=mesh, stack=process.stack)
        await room.heard()
        ada = await room.person()
        upload = await ada.create(LARGE)
        await ada.write(upload, 0, LARGE[:CHUNK])
        process.tell(signal.SIGKILL)
        await process.wait()
    async with program(mesh) as process:
        room = Starter(mesh=mesh, stack=process.stack)
        await room.heard()
        ada = await room.person(ada.account)
        found = await ada.progress(upload)
        assert found.received_size == CHUNK
        finished = await ada.send(found, LARGE)
        assert finished.state == pb.UPLOAD_STATE_FINISHED
        assert b"".join(frame.chunk for frame in await ada.download(finished.media.id)) == LARGE
        process.tell(signal.SIGTERM)
        assert await process.wait() == 0
