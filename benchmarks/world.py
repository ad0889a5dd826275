"""What a run stands on: a provider, a mesh started as a person starts it, a signed-in client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from assistant.agent.v1 import agent_pb2_grpc
from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2, session_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent
READY = 120  # seconds a mesh may take to start


def surroundings(**added: str) -> dict[str, str]:
    """The environment of a child: this one's, with the repository importable."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'generated'}", **added}


@contextmanager
def provider() -> Iterator[int]:
    """The fake provider in its own process; its port."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.provider"],
        cwd=ROOT,
        env=surroundings(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        yield int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait(10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """A running mesh. `started_seconds` is from the command to ready."""

    data: Path
    port: int
    token: str
    started_seconds: float

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a signed-in call carries."""
        return (("authorization", f"Bearer {self.token}"),)

    @property
    def context_socket(self) -> str:
        """context_svc's own address, without the edge."""
        return f"unix:{self._record['run']}/context.sock"

    def process(self, room: str) -> int:
        """The process id of a room."""
        rooms: dict[str, int] = self._record["rooms"]
        return rooms[room]

    async def command(self, *words: str) -> None:
        """Run `mesh` with these words, as the mesh's owner. Raises RuntimeError with what it said."""
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mesh", *words),
            cwd=ROOT,
            env=surroundings(MESH_DATA_DIR=str(self.data), MESH_PORT=str(self.port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await program.communicate()
        if program.returncode != 0:
            raise RuntimeError(said.decode())

    @property
    def _record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return record


@contextmanager
def bare() -> Iterator[tuple[int, str]]:
    """A bare grpc.aio server in its own process; its id and its address."""
    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as folder:
        address = f"unix:{folder}/e.sock"
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.echo", address],
            cwd=ROOT,
            env=surroundings(),
            stdout=subprocess.PIPE,
        )
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield child.pid, address
        finally:
            child.terminate()
            child.wait(10)


@contextmanager
def mesh(**settings: str) -> Iterator[Mesh]:
    """`mesh up` on an empty data folder and a free port, with an account; ended when the block ends."""
    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as folder:
        data, port = Path(folder) / "d", free_port()
        environment = surroundings(
            MESH_DATA_DIR=str(data), MESH_PORT=str(port), MESH_REFERENCE="false", **settings
        )
        log = (Path(folder) / "log").open("w")
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-m", "mesh", "up"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            _await_ready(child, environment, Path(folder) / "log")
            started = time.perf_counter() - began
            yield Mesh(data=data, port=port, token=_sign_in(data, environment), started_seconds=started)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(40)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_ready(child: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    until = time.monotonic() + READY
    while time.monotonic() < until and child.poll() is None:
        status = subprocess.run(
            [sys.executable, "-m", "mesh", "status"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=False,
        )
        if status.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"the mesh did not start:\n{log.read_text()[-4000:]}")


def _sign_in(data: Path, environment: dict[str, str]) -> str:
    subprocess.run(
        [sys.executable, "-m", "mesh", "chat", "--once", "1 tokens"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    token: str = json.loads((data / "client/credentials.json").read_text())["access_token"]
    return token


class Client:
    """A signed-in client at the public port, over native gRPC."""

    def __init__(self, channel: grpc.aio.Channel, mesh: Mesh) -> None:
        self.chat = chat_pb2_grpc.ChatServiceStub(channel)
        self.agent = agent_pb2_grpc.AgentServiceStub(channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)
        self.mesh = mesh

    async def session(self) -> str:
        """A new session's id."""
        request = session_pb2.CreateSessionRequest(session_id=str(uuid.uuid4()))
        created = await self.sessions.CreateSession(request, metadata=self.mesh.metadata, timeout=30)
        return created.session.id

    async def turn(self, session: str, words: str) -> Timing:
        """Send a message, follow its turn, note when what came."""
        message = chat_pb2.NewMessage(
            session_id=session, client_message_id=str(uuid.uuid4()), parts=[message_pb2.Part(text=words)]
        )
        began = time.perf_counter()
        first, last, received, written, ended, actions = 0.0, 0.0, 0, 0, "", []
        call = self.chat.SendMessage(
            chat_pb2.SendMessageRequest(message=message, follow=True),
            metadata=self.mesh.metadata,
            timeout=300,
        )
        async for frame in call:
            event = frame.event
            if event.HasField("text_delta"):
                last = time.perf_counter() - began
                first = first or last
                received += event.text_delta.text.count("token ")
            if event.HasField("tool_finished"):
                actions.append(event.tool_finished.duration.ToTimedelta().total_seconds())
            ended = event.WhichOneof("event") or ended
            written = event.turn_finished.usage.output_tokens or written
            if ended == "turn_suspended":
                break
        if ended != "turn_finished":
            raise RuntimeError(f"the turn ended with {ended}: {frame}")
        return Timing(
            first_token=first,
            last_token=last,
            seconds=time.perf_counter() - began,
            tokens=received,
            written=written,
            actions=tuple(actions),
        )

    async def cancelled_turn(
        self, session: str, words: str, reached: Callable[[], Awaitable[object]] | None = None
    ) -> tuple[float, float]:
        """Send a message and stop its turn; when that was asked, and when the turn was over.

        It is stopped at the first token, or at its first action once `reached` answers.
        """
        message = chat_pb2.NewMessage(
            session_id=session, client_message_id=str(uuid.uuid4()), parts=[message_pb2.Part(text=words)]
        )
        asked = 0.0
        call = self.chat.SendMessage(
            chat_pb2.SendMessageRequest(message=message, follow=True),
            metadata=self.mesh.metadata,
            timeout=60,
        )
        async for frame in call:
            event = frame.event
            if (event.HasField("text_delta") or event.HasField("tool_started")) and not asked:
                if reached is not None:
                    await reached()
                request = chat_pb2.CancelTurnRequest(
                    session_id=session, turn_id=event.turn_id, request_id=str(uuid.uuid4())
                )
                asked = time.perf_counter()
                await self.chat.CancelTurn(request, metadata=self.mesh.metadata, timeout=10)
        if not frame.event.HasField("turn_cancelled"):
            raise RuntimeError(f"the turn was not cancelled: {frame}")
        return asked, time.perf_counter()


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One turn: seconds to its first and last token and in all; tokens of the fake provider that were received;
    tokens the model says it wrote; seconds that each of its actions took, as they say.
    """

    first_token: float
    seconds: float
    tokens: int
    last_token: float = 0.0
    written: int = 0
    actions: tuple[float, ...] = ()


@asynccontextmanager
async def client(mesh: Mesh) -> AsyncIterator[Client]:
    """A client with one connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port}", options) as channel:
        yield Client(channel, mesh)


async def gather(count: int, act: object) -> list[Timing]:
    """Run `act(index)` `count` times at once."""
    return list(await asyncio.gather(*(act(index) for index in range(count))))  # type: ignore[operator]
