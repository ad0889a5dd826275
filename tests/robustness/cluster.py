"""A mesh as a cluster runs it: two processes of every room on ports, mutual TLS between them, one Envoy in front."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.rooms import ROOMS
from tests.edge import proxy
from tests.robustness.mesh import Machine, Process, machine

REPLICAS = (1, 2)
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


@dataclass(kw_only=True)
class Cluster:
    """Eight processes and their edge."""

    machine: Machine
    edge: proxy.Edge
    ports: Mapping[tuple[str, int], int]

    async def start(self, room: str, replica: int) -> Process:
        """Start one of them and return when it serves."""
        return await self.machine.start(
            room, f"{room}{replica}", **listening(room, self.ports[room, replica])
        )

    def kill(self, room: str, replica: int) -> None:
        """End one of them as a crash does."""
        self.machine.running[f"{room}{replica}"].kill()

    async def leave(self, room: str, replica: int) -> float:
        """Tell one of them to stop; the seconds until it has."""
        leaving = self.machine.running[f"{room}{replica}"]
        began = time.monotonic()
        leaving.process.send_signal(signal.SIGTERM)
        assert await leaving.ended(30) == 0
        return time.monotonic() - began


def listening(room: str, port: int) -> dict[str, str]:
    """What tells a room to serve on a port."""
    return {f"{room.upper()}_LISTEN": f"127.0.0.1:{port}"}


@asynccontextmanager
async def cluster(database: str, schema: str, *, linger: int = 0) -> AsyncIterator[Cluster]:
    """Both processes of every room serve, and Envoy is in front of them.

    One that is told to stop serves on for `linger` seconds, in which Envoy learns of it.
    """
    ports = _free_ports()
    told = _everywhere(database, schema, ports) | {"CONTEXT_LINGER_SECONDS": str(linger)}
    async with machine(database=database, **told) as here:
        for room in ROOMS:  # context first: the others follow its feed
            for replica in REPLICAS:
                here.spawn(room, f"{room}{replica}", **listening(room, ports[room, replica]))
            if room == "context":
                for replica in REPLICAS:
                    await here.ready(here.running[f"context{replica}"])
        for each in here.running.values():
            await here.ready(each)
        with proxy.envoy(here.places.run, _values(here, ports)) as edge:
            yield Cluster(machine=here, edge=edge, ports=ports)


def _free_ports() -> dict[tuple[str, int], int]:
    with ExitStack() as stack:
        probes = {
            (room, replica): stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for room in ROOMS
            for replica in REPLICAS
        }
        return {which: probe.getsockname()[1] for which, probe in probes.items()}


def _everywhere(database: str, schema: str, ports: Mapping[tuple[str, int], int]) -> dict[str, str]:
    """The addresses of all rooms, for all rooms, and the one database of both that keep something."""
    told = {"CONTEXT_DATABASE_SCHEMA": schema, "MEDIA_DATABASE": database}
    for peer in ROOMS:
        both = ",".join(f"127.0.0.1:{ports[peer, replica]}" for replica in REPLICAS)
        told |= {f"{room.upper()}_{peer.upper()}": f"ipv4:{both}" for room in ROOMS if room != peer}
    return told


def _values(here: Machine, ports: Mapping[tuple[str, int], int]) -> dict[str, str]:
    def both(room: str) -> str:
        ends = [
            json.dumps({"socket_address": {"address": "127.0.0.1", "port_value": ports[room, replica]}})
            for replica in REPLICAS
        ]
        return f"}}}}, {{endpoint: {{hostname: {room}, address: ".join(ends)

    return {
        **proxy.local_values(here.places.run, proxy.free_port()),
        "JWKS_FOLDER": str(here.places.keys),
        "TLS_ROOMS": json.dumps({"name": "tls", "typed_config": _upstream(here.places.keys / "tls")}),
        **{f"ADDRESS_{room.upper()}": both(room) for room in ("context", "llm", "media")},
    }


def _upstream(tls: Path) -> dict[str, object]:
    chain = {
        "certificate_chain": {"filename": f"{tls}/envoy.pem"},
        "private_key": {"filename": f"{tls}/envoy.key"},
    }
    return {
        "@type": _TLS,
        "auto_host_sni": True,
        "auto_sni_san_validation": True,
        "common_tls_context": {
            "tls_certificates": [chain],
            "validation_context": {"trusted_ca": {"filename": f"{tls}/ca.pem"}},
        },
    }
