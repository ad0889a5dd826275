"""A mesh whose processes a test holds one by one: started (under a failpoint, as a replica), frozen, killed."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.certificates import Certificates
from mesh import authority, keys
from mesh.places import Places
from mesh.rooms import Model, Room, python_rooms
from tests.edge import proxy as edge

READY = 40.0  # seconds until a room must serve, on a machine that is busy with other tests
_LOCAL = [("grpc.use_local_subchannel_pool", 1)]


@dataclass(kw_only=True)
class Process:
    """A room that runs."""

    name: str
    room: str
    process: subprocess.Popen[bytes]
    address: str
    log: Path
    ready_seconds: float = 0.0

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        """Stop it without ending it."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self.process.send_signal(signal.SIGCONT)

    async def ended(self, within: float) -> int:
        """Its exit code, once it has ended by itself."""
        until = time.monotonic() + within
        while (code := self.process.poll()) is None and time.monotonic() < until:  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.02)
        assert code is not None, f"{self.name} did not end:\n{self.log.read_text()[-3000:]}"
        return code


@dataclass(kw_only=True)
class Machine:
    """The folders of a mesh and the processes that run there now."""

    places: Places
    database: str = ""
    running: dict[str, Process] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    def context(self, replica: str = "context") -> str:
        """Address of a context_svc."""
        return f"unix:{self.places.run}/{replica}.sock"

    def operator(self, replica: str = "context") -> str:
        """Address of its OperatorService."""
        return f"unix:{self.places.run}/{_operator(replica)}.sock"

    async def start(self, name: str, replica: str = "", **environment: str) -> Process:
        """Start a room and return when it serves. `replica` names a second process of the same room."""
        started = self.spawn(name, replica, **environment)
        await self.ready(started)
        return started

    def spawn(self, name: str, replica: str = "", **environment: str) -> Process:
        """Start a room without waiting for it."""
        room = self._room(name)
        label = replica or name
        socket = self.places.run / f"{label}.sock"
        added = dict(self.extra)
        if name == "context":
            added["CONTEXT_LISTEN"] = f"unix:{socket}"
            added["CONTEXT_OPERATOR_LISTEN"] = f"unix:{self.places.run}/{_operator(label)}.sock"
            if self.database:
                added["CONTEXT_DATABASE"] = self.database
        log = self.places.logs / f"{label}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                room.command,
                env={**room.environment, **added, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        address = environment.get(f"{name.upper()}_LISTEN", f"unix:{socket}")
        started = Process(name=label, room=name, process=process, address=address, log=log)
        self.running[label] = started
        return started

    async def ready(self, started: Process) -> None:
        """Return when a room serves; notes how long it took."""
        began = time.monotonic()
        while not await _serves(_dialled(started, self.places.keys / "tls")):
            assert started.process.poll() is None, started.log.read_text()[-3000:]
            assert time.monotonic() - began < READY, started.log.read_text()[-3000:]
            await asyncio.sleep(0.02)
        started.ready_seconds = time.monotonic() - began

    def stop(self) -> None:
        """End whatever still runs."""
        for each in self.running.values():
            if each.process.poll() is None:
                each.thaw()
                each.process.kill()
                each.process.wait(10)

    def _room(self, name: str) -> Room:
        model = Model(name="scripted", scripted=True)
        rooms = python_rooms(self.places, model=model, log_format="text", extra={})
        return next(room for room in rooms if room.name == name)


def _operator(replica: str) -> str:
    return "operator" if replica == "context" else f"operator-{replica}"


async def _serves(opened: grpc.aio.Channel) -> bool:
    """Whether the process behind a channel says SERVING; closes it."""
    async with opened as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=1
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _dialled(process: Process, tls: Path) -> grpc.aio.Channel:
    """A channel as the edge dials a room."""
    if process.address.startswith("unix:"):
        return grpc.aio.insecure_channel(process.address, _LOCAL)
    shown = Certificates.read(tls, "envoy").for_channel()
    named = ("grpc.ssl_target_name_override", process.room)
    return grpc.aio.secure_channel(process.address, shown, [*_LOCAL, named])


@asynccontextmanager
async def machine(*rooms: str, database: str = "", **extra: str) -> AsyncIterator[Machine]:
    """A mesh's folders with these rooms running, context first; everything has ended when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="rb", dir="/tmp"))
    places = Places(data=folder / "d", run=folder / "r")
    places.make()
    keys.ensure(places.keys)
    authority.ensure(places.keys / "tls")
    here = Machine(places=places, database=database, extra=extra)
    try:
        for name in rooms:
            here.spawn(name)
            if name == "context":
                await here.ready(here.running[name])
        for each in here.running.values():
            await here.ready(each)
        yield here
    finally:
        here.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def front(here: Machine, *replicas: str) -> Iterator[edge.Edge]:
    """The real Envoy in front of these processes of context_svc."""
    run = here.places.run
    pipes = [json.dumps({"pipe": {"path": f"{run}/{each}.sock"}}) for each in replicas or ("context",)]
    values: Mapping[str, str] = {
        **edge.local_values(run, edge.free_port()),
        "JWKS_FOLDER": str(here.places.keys),
        "ADDRESS_CONTEXT": "}}, {endpoint: {hostname: context, address: ".join(pipes),
    }
    with edge.envoy(run, values) as running:
        yield running
