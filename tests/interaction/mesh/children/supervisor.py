"""Supervises one real room in a process of its own that a test can kill: supervisor.py SOCKET PIDFILE."""

import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console

from mesh.logs import Screen
from mesh.peers import serving
from mesh.rooms import Health, Room
from mesh.supervisor import Supervisor

_ROOM = str(Path(__file__).with_name("room.py"))


async def supervise(socket: Path, record: Path) -> None:
    room = Room(
        name="room",
        command=(sys.executable, _ROOM, str(socket), "--deaf"),
        readiness=Health(socket=socket),
    )
    supervisor = Supervisor([room], probe=serving, sink=Screen(Console(), ("room",)))

    async def announce() -> None:
        record.write_text(json.dumps(supervisor.processes()))  # noqa: ASYNC240  # a few bytes, once
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    await supervisor.run(announce)


if __name__ == "__main__":
    asyncio.run(supervise(Path(sys.argv[1]), Path(sys.argv[2])))
