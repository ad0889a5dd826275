"""The supervisor with real child processes: start, readiness, crash, drain, and nothing left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mesh.errors import RoomFailed
from mesh.keeper import OWN, Patience
from mesh.peers import serving
from mesh.restarts import Pace
from mesh.rooms import Health, Room
from mesh.supervisor import Supervisor

CHILDREN = Path(__file__).with_name("children")
ROOT = Path(__file__).parents[3]
QUICK = Patience(ready=20, grace=15, pace=Pace(first=0.01, cap=0.05))


@dataclass
class Heard:
    """Collects lines, and lets a test wait for one."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        self._news.set()

    async def until(self, name: str, part: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(who == name and part in line for who, line in self.lines) < times:
                self._news.clear()
                await self._news.wait()

    def about(self, name: str) -> str:
        return "\n".join(line for who, line in self.lines if who == name)


def room(folder: Path, name: str, *options: str, needs: tuple[str, ...] = (), leaves: int = 0) -> Room:
    socket = folder / f"{name}.sock"
    return Room(
        name=name,
        command=(sys.executable, str(CHILDREN / "room.py"), str(socket), *options),
        readiness=Health(socket=socket),
        needs=needs,
        leaves=leaves,
    )


def gone(pid: int) -> bool:
    """A process that is dead, or dead and not yet reaped by its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(20):
        while not all(gone(pid) for pid in pids):  # noqa: ASYNC110  # processes not ours
            await asyncio.sleep(0.01)


Then = Callable[[Supervisor], Awaitable[None]]


async def supervised(rooms: list[Room], heard: Heard, then: Then, patience: Patience = QUICK) -> None:
    supervisor = Supervisor(rooms, probe=serving, sink=heard, patience=patience)

    async def started() -> None:
        await then(supervisor)

    async with asyncio.timeout(45):
        await supervisor.run(started)


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_rooms_start_in_order_serve_and_drain_when_told_to_stop(short: Path) -> None:
    heard, pids = Heard(), dict[str, int]()

    async def then(supervisor: Supervisor) -> None:
        pids.update(supervisor.processes())
        supervisor.stop()

    await supervised([room(short, "last", needs=("first",), leaves=1), room(short, "first")], heard, then)

    assert [entry for entry in heard.lines if entry[0] != OWN] == [
        ("first", "serving"),
        ("last", "serving"),
        ("first", "draining"),
        ("last", "draining"),
    ]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids.values())


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_a_room_that_is_killed_is_started_again_and_the_other_stays(short: Path) -> None:
    heard = Heard()

    async def then(supervisor: Supervisor) -> None:
        before = supervisor.processes()
        os.kill(before["a"], signal.SIGKILL)
        await heard.until("a", "serving", times=2)
        after = supervisor.processes()
        assert after["a"] != before["a"]
        assert after["b"] == before["b"]
        supervisor.stop()

    await supervised([room(short, "a"), room(short, "b")], heard, then)

    assert "a was ended by SIGKILL; starting it again in 0.01 s." in heard.about(OWN)


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_a_room_that_dies_at_its_first_start_is_tried_again(short: Path) -> None:
    heard = Heard()

    async def then(supervisor: Supervisor) -> None:
        supervisor.stop()

    await supervised([room(short, "a", "--after", str(short / "mark"))], heard, then)

    assert "a ended with code 3; starting it again" in heard.about(OWN)


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_a_room_that_never_starts_ends_the_mesh_with_its_last_lines(short: Path) -> None:
    broken = Room(
        name="broken",
        command=(sys.executable, "-c", "print('no such model'); raise SystemExit(4)"),
        readiness=Health(socket=short / "none.sock"),
    )
    pids = dict[str, int]()

    async def never(_: Supervisor) -> None:
        pytest.fail("a mesh with a broken room was called ready")

    heard = Heard()
    with pytest.raises(RoomFailed, match=r"broken ended with code 4 3 times.*\n    no such model"):
        await supervised([room(short, "good"), broken], heard, never)

    assert all(gone(pid) for pid in pids.values())
    assert not await serving(Health(socket=short / "good.sock"))


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_a_crash_loop_is_told_and_the_rest_goes_on(short: Path) -> None:
    heard = Heard()
    pace = Pace(first=0.01, cap=0.02, loop=2)

    async def then(supervisor: Supervisor) -> None:
        for times in (2, 3):
            os.kill(supervisor.processes()["a"], signal.SIGKILL)
            await heard.until("a", "serving", times=times)
        assert "b" in supervisor.processes()
        supervisor.stop()

    await supervised([room(short, "a"), room(short, "b")], heard, then, Patience(pace=pace))

    assert "a keeps crashing (2 times in a row). The other rooms go on" in heard.about(OWN)


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_a_room_that_ignores_sigterm_is_killed_when_the_grace_is_over(short: Path) -> None:
    heard, pids = Heard(), dict[str, int]()

    async def then(supervisor: Supervisor) -> None:
        pids.update(supervisor.processes())
        supervisor.stop()

    await supervised([room(short, "deaf", "--deaf")], heard, then, Patience(grace=0.2))

    assert "deaf did not end within 0.2 s: killed." in heard.about(OWN)
    assert gone(pids["deaf"])


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_a_second_stop_does_not_wait(short: Path) -> None:
    heard = Heard()

    async def then(supervisor: Supervisor) -> None:
        supervisor.stop()
        supervisor.stop()

    await supervised([room(short, "deaf", "--deaf")], heard, then, Patience(grace=600))


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_what_a_room_started_itself_ends_with_it(short: Path) -> None:
    heard, record = Heard(), short / "child"

    async def then(supervisor: Supervisor) -> None:
        supervisor.stop()

    await supervised([room(short, "a", "--child", str(record))], heard, then)

    await until_gone(int(record.read_text()))


@pytest.mark.slow
@pytest.mark.requirement("RUN-1")
async def test_killing_the_supervisor_ends_its_rooms(short: Path) -> None:
    record = short / "pids"
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILDREN / "supervisor.py"),
        *(str(short / "room.sock"), str(record)),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"},
    )
    try:
        assert supervisor.stdout is not None
        async with asyncio.timeout(20):
            line = b"-"
            while line != b"ready\n":
                assert line, "the supervisor ended before its room was ready"
                line = await supervisor.stdout.readline()
        pids = json.loads(record.read_text())
        assert not gone(pids["room"])
    finally:
        supervisor.kill()
        await supervisor.wait()

    await until_gone(pids["room"])
