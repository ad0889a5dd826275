"""Whole meshes: four rooms and the real Envoy, with rooms that only say they serve."""

import asyncio
import io
import os
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from mesh import edge, record
from mesh.keeper import Patience
from mesh.peers import serving
from mesh.places import Places, places
from mesh.rooms import ROOMS, Model, Room, edge_room, python_rooms
from mesh.settings import MeshSettings
from mesh.status import status
from mesh.supervisor import Supervisor

CHILDREN = Path(__file__).with_name("children")
STAND_INS = {room: {"PYTHONPATH": str(CHILDREN / "rooms")} for room in ROOMS}


class Quiet:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, name: str, line: str) -> None:
        self.lines.append(f"{name} | {line}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def a_mesh(folder: Path) -> tuple[MeshSettings, Places, tuple[Room, ...]]:
    settings = MeshSettings(
        data_dir=folder,
        port=free_port(),
        envoy_config=CHILDREN / "envoy.yaml",
        web_root=folder,
    )
    where = places(folder, runtime=None)
    where.make()
    rooms = python_rooms(where, model=Model(name="m", scripted=True), log_format="text", extra=STAND_INS)
    binary, config = edge.program(settings), edge.write(settings, where)
    return settings, where, (*rooms, edge_room(where, binary=binary, config=config, concurrency=1))


@pytest.mark.slow
@pytest.mark.requirement("RUN-6")
@pytest.mark.requirement("RUN-1")
async def test_two_meshes_run_side_by_side_and_end_apart(short: Path) -> None:
    made = [a_mesh(short / name) for name in ("a", "b")]
    sinks = [Quiet(), Quiet()]
    supervisors = [
        Supervisor(rooms, probe=serving, sink=sink, patience=Patience(ready=50))
        for (_, _, rooms), sink in zip(made, sinks, strict=True)
    ]
    ready = [asyncio.Event(), asyncio.Event()]

    async def check() -> None:
        for event in ready:
            await event.wait()
        async with httpx.AsyncClient() as client:
            for settings, _, _ in made:
                answer = await client.get(f"http://127.0.0.1:{settings.port}/")
                assert answer.text == f"the mesh of {settings.data_dir}"
            supervisors[0].stop()
            await tasks[0]
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{made[0][0].port}/")
            assert (await client.get(f"http://127.0.0.1:{made[1][0].port}/")).status_code == 200
        supervisors[1].stop()

    async def run(index: int) -> None:
        async def started() -> None:
            ready[index].set()

        await supervisors[index].run(started)

    async with asyncio.timeout(55), asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(index)) for index in range(2)]
        group.create_task(check())
    assert [supervisor.processes() for supervisor in supervisors] == [{}, {}], sinks


@pytest.mark.slow
@pytest.mark.requirement("RUN-4")
async def test_status_is_0_when_every_room_and_the_edge_serve(short: Path) -> None:
    settings, where, rooms = a_mesh(short / "a")
    supervisor = Supervisor(rooms, probe=serving, sink=Quiet(), patience=Patience(ready=50))
    out, codes = io.StringIO(), list[int]()

    async def started() -> None:
        told = record.Record(
            pid=os.getpid(), run=str(where.run), bind="127.0.0.1", port=settings.port, model="m", rooms={}
        )
        with record.owned(where):
            record.write(where, told)
            codes.append(await status(where, Console(file=out, width=200)))
        supervisor.stop()

    async with asyncio.timeout(55), AsyncExitStack():
        await supervisor.run(started)

    assert codes == [0]
    assert out.getvalue().count(" serving") == 5


async def command(*words: str, **environment: str) -> tuple[int | None, str]:
    root = Path(__file__).parents[3]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh", *words),
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'generated'}", "PATH": os.defpath, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(40):
        told, _ = await process.communicate()
    return process.returncode, told.decode()


@pytest.mark.slow
@pytest.mark.requirement("RUN-4")
async def test_up_on_a_taken_port_says_who_has_it_and_starts_nothing(short: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, told = await command(
            "up", MESH_DATA_DIR=str(short / "d"), MESH_PORT=str(port), MESH_MODEL="scripted"
        )

    assert code == 1
    assert f"Port {port} is taken by" in told
    assert f"process {os.getpid()}" in told
    assert "Traceback" not in told
    assert not (short / "d" / "run.json").exists()


@pytest.mark.slow
@pytest.mark.requirement("RUN-4")
async def test_doctors_exit_code_is_the_number_of_problems(short: Path) -> None:
    environment = {"MESH_DATA_DIR": str(short / "d"), "MESH_PORT": str(free_port()), "MESH_MODEL": "scripted"}

    well = await command("doctor", **environment)
    (short / "d").mkdir(mode=0o755)
    (short / "d").chmod(0o755)
    ill = await command("doctor", **environment, MESH_ENVOY_BINARY="/nowhere/envoy")

    assert well[0] == 0, well[1]
    assert "All is well." in well[1]
    assert ill[0] == 2, ill[1]
    assert f"chmod 700 {short / 'd'}" in ill[1]


@pytest.mark.slow
@pytest.mark.requirement("RUN-6")
async def test_a_wrong_setting_is_one_sentence_and_no_traceback() -> None:
    code, told = await command("doctor", MESH_PORT="seventy")

    assert code == 1
    assert "port" in told
    assert "Traceback" not in told
