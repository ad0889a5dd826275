"""What a mesh is made of, as data: each child process with its command, environment and readiness."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesh.places import Places

ROOMS = ("context", "orchestrator", "llm", "media")
EDGE = "envoy"
REPOSITORY = Path(__file__).resolve().parent.parent

_PEERS: Mapping[str, tuple[str, ...]] = {
    "context": ("orchestrator", "media"),
    "orchestrator": ("llm", "media", "context"),
    "llm": ("context",),
    "media": ("context", "llm"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """Ready when the gRPC health service on this socket says SERVING."""

    socket: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Admin:
    """Ready when Envoy's admin interface on this socket answers /ready with 200."""

    socket: Path


Readiness = Health | Admin


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """One child process.

    `environment` is all of its environment; `needs` are rooms that must be ready before it starts; `leaves`
    orders the drain: lower numbers are told to stop first, because the others still serve them.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    readiness: Readiness
    needs: tuple[str, ...] = ()
    leaves: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What answers: built-in weights (`file`, `sha256`), the scripted model, or a provider's by `name`."""

    name: str
    file: Path | None = None
    sha256: str = ""
    scripted: bool = False


def socket(places: Places, name: str) -> Path:
    """Answer the unix socket a room serves its gRPC on."""
    return places.run / f"{name}.sock"


def operator_socket(places: Places) -> Path:
    """Answer the socket of OperatorService, which context_svc serves for this machine's owner alone."""
    return places.run / "operator.sock"


def admin_socket(places: Places) -> Path:
    """Answer the socket of Envoy's admin interface."""
    return places.run / "admin.sock"


def python_rooms(
    places: Places, *, model: Model, log_format: str, extra: Mapping[str, Mapping[str, str]]
) -> tuple[Room, ...]:
    """Answer the four rooms. `extra` adds variables to one room's environment; they win over ours."""
    return tuple(
        Room(
            name=name,
            command=(sys.executable, "-P", "-m", f"{name}_svc"),
            environment=_surroundings(places)
            | _own(places, name, log_format)
            | _peers(places, name)
            | (_model(model) if name == "llm" else {})
            | dict(extra.get(name, {})),
            readiness=Health(socket=socket(places, name)),
            needs=() if name == "context" else ("context",),
            leaves={"context": 0, "orchestrator": 1}.get(name, 2),
        )
        for name in ROOMS
    )


def edge_room(places: Places, *, binary: Path, config: Path, concurrency: int) -> Room:
    """Answer Envoy. It starts once context_svc is ready, which has by then written the users' public keys."""
    return Room(
        name=EDGE,
        command=(
            *(str(binary), "--config-path", str(config), "--disable-hot-restart"),
            *("--concurrency", str(concurrency), "--log-level", "warning"),
            *("--component-log-level", "misc:error"),  # no note for each extension still marked as new
            *("--drain-time-s", "20"),
        ),
        environment=_surroundings(places),
        readiness=Admin(socket=admin_socket(places)),
        needs=("context",),
        leaves=2,
    )


def _surroundings(places: Places) -> dict[str, str]:
    """Answer what any process needs: nothing of the operator's own environment is handed on."""
    return {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.defpath)),
        "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "generated"))),
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # rooms start programs, never copies of themselves
        "HOME": str(places.data),
    }


def _own(places: Places, name: str, log_format: str) -> dict[str, str]:
    prefix = f"{name.upper()}_"
    own = {
        "LISTEN": f"unix:{socket(places, name)}",
        "DATA_DIR": str(places.data),
        "KEYS_DIR": str(places.keys),
        "TLS_DIR": str(places.keys / "tls"),
        "LOG_FORMAT": log_format,
    }
    if name == "orchestrator":
        own["REFERENCE_DIR"] = str(places.reference)
    if name == "context":
        own["OPERATOR_LISTEN"] = f"unix:{operator_socket(places)}"
        own["MCP_LISTEN"] = f"unix:{socket(places, 'mcp')}"
    return {prefix + key: value for key, value in own.items()}


def _peers(places: Places, name: str) -> dict[str, str]:
    return {f"{name.upper()}_{peer.upper()}": f"unix:{socket(places, peer)}" for peer in _PEERS[name]}


def _model(model: Model) -> dict[str, str]:
    if model.scripted:
        return {"LLM_SCRIPT": "true"}
    if model.file is None:
        return {"LLM_DEFAULT_MODEL": model.name}
    return {
        "LLM_MODEL_NAME": model.name,
        "LLM_MODEL_FILE": str(model.file),
        "LLM_MODEL_SHA256": model.sha256,
    }


def waves(rooms: Sequence[Room]) -> list[list[Room]]:
    """Answer the rooms in the order they are told to stop, those of one wave together."""
    return [
        [room for room in rooms if room.leaves == wave] for wave in sorted({room.leaves for room in rooms})
    ]
