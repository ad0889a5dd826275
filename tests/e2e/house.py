"""A whole mesh as a person starts it: `mesh up` in a process of its own, its edge on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from chassis.settings import environment
from tests.weights import FOLDER

ROOT = Path(__file__).parents[2]
START = 60.0  # seconds a mesh may take until every room serves, on a machine that is busy with other tests
STOP = 40.0


@dataclass(kw_only=True)
class House:
    """A running mesh and the terminal beside it."""

    process: subprocess.Popen[bytes]
    port: int
    environment: dict[str, str]
    log: Path

    @property
    def url(self) -> str:
        """The public address."""
        return f"http://127.0.0.1:{self.port}"

    def mesh(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a `mesh` command in this house."""
        return subprocess.run(
            [sys.executable, "-m", "mesh", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def token(self) -> str:
        """An access token of this terminal's account, which is made when it has none."""
        told = self.mesh("token")
        assert told.returncode == 0, told.stderr
        return told.stdout.strip()

    def http(self) -> httpx.Client:
        """A signed-in JSON client."""
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {self.token()}"}, timeout=30
        )

    def pid(self, room: str) -> int:
        """The process of a room ("context", …) at this moment."""
        for pid in _children(self.process.pid):
            if f"{room}_svc" in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
                return pid
        raise LookupError(room)

    def kill(self, room: str) -> int:
        """Kill a room as a crash would; answers the process that was killed."""
        pid = self.pid(room)
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_ready(self, within: float = START) -> None:
        """Return when every room serves."""
        until = time.monotonic() + within
        while time.monotonic() < until and self.process.poll() is None:
            if self.mesh("status").returncode == 0:
                return
        raise TimeoutError(f"the mesh does not serve:\n{self.log.read_text()[-6000:]}")

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it as Ctrl-C does; answers its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP)


@contextmanager
def house(model: str = "scripted", data: Path | None = None, **settings: str) -> Iterator[House]:
    """Start a mesh, on an empty folder unless `data` is given; ended at the latest when the block ends."""
    with tempfile.TemporaryDirectory(prefix="me", dir="/tmp") as folder:
        port = free_port()
        surroundings = {
            **environment(),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'generated'}",
            "MESH_DATA_DIR": str(data or Path(folder) / "d"),
            "MESH_PORT": str(port),
            "MESH_MODEL": model,
            "MESH_REFERENCE": "false",
            "MESH_MODELS_DIR": str(FOLDER),
            **settings,
        }
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "mesh", "up"], cwd=ROOT, env=surroundings, stdout=output, stderr=output
            )
        running = House(process=process, port=port, environment=surroundings, log=log)
        try:
            running.await_ready()
            yield running
        finally:
            if process.poll() is None:
                running.stop(signal.SIGTERM)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_id() -> str:
    """An id as a client makes it."""
    return str(uuid.uuid4())


def descendants(pid: int) -> set[int]:
    """Every process below this one."""
    below: set[int] = set()
    waiting = [pid]
    while waiting:
        found = _children(waiting.pop())
        below.update(found)
        waiting.extend(found)
    return below


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found
