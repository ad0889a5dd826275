"""`mesh models`: which models run on this machine; get one, choose one, remove one."""

import re
from collections.abc import Mapping
from pathlib import Path

import tomlkit
from rich.console import Console
from rich.table import Table
from tomlkit.exceptions import TOMLKitError

from chassis.settings import environment
from chassis.whole import write_whole
from mesh import record
from mesh.errors import MeshError, ModelInUse, ModelUnavailable, ModelUnknown, SettingsInvalid
from mesh.machine import machine
from mesh.manifest import SCRIPTED, Weights, add, added, built_in, forget, size
from mesh.places import Places
from mesh.settings import FILE, MeshSettings
from mesh.sources import length
from mesh.up import fetched, models_folder
from mesh.weights import SourceFailed, file_of, verified

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ROOMS_MEMORY = 2_000_000_000  # bytes the mesh itself and a model's context want, beside the weights


def show(settings: MeshSettings, places: Places, console: Console) -> int:
    """Print the models that can run here: which are on disk, and which one `mesh up` takes."""
    folder = models_folder(settings, places)
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "model", "size", "licence", ""):
        table.add_column(heading)
    for name, weights in known(folder).items():
        marks = [mark for mark, holds in _marks(settings, folder, name, weights) if holds]
        table.add_row(name, weights.title, size(weights.bytes), weights.licence, ", ".join(marks))
    console.print(table)
    return 0


def known(folder: Path) -> Mapping[str, Weights]:
    """Answer every model that can run on this machine, by the name MESH_MODEL takes. Raises ModelUnknown."""
    return {**added(folder), **built_in()}


def pull(settings: MeshSettings, places: Places, name: str, console: Console) -> int:
    """Get the weights of a model now. Raises ModelUnknown, ModelUnavailable, NotEnoughRoom."""
    places.make()
    folder = models_folder(settings, places)
    weights = _found(folder, name)
    file = fetched(weights, settings, folder, machine(folder), console)
    _say(console, f"{weights.title} is here: {file}. `mesh models use {name}` lets it answer.")
    return 0


def pull_from(
    settings: MeshSettings, places: Places, name: str, address: str, sha256: str, console: Console
) -> int:
    """Get a GGUF file of the owner's choice, pinned by its digest, and remember it under a name.

    Raises ModelUnknown for a name, address or digest that cannot be one, and what `pull` raises.
    """
    places.make()
    folder = models_folder(settings, places)
    weights = _described(name, address, sha256.lower())
    add(folder, weights)
    return pull(settings, places, name, console)


def use(settings: MeshSettings, places: Places, name: str, console: Console) -> int:
    """Let a model answer from the next `mesh up` on. Raises ModelUnknown, SettingsInvalid."""
    if name != SCRIPTED:
        weights = _found(models_folder(settings, places), name)
        if not verified(weights, file_of(weights, models_folder(settings, places))):
            _say(console, f"{weights.title} is not here yet: the next start gets it, {size(weights.bytes)}.")
    places.make()
    _set(places.data / FILE, "model", name)
    if environment().get("MESH_MODEL") not in (None, name):
        _say(
            console, f"MESH_MODEL={environment()['MESH_MODEL']} is set in this environment and wins over it."
        )
    again = " Start the mesh again for it." if _running(places) else ""
    _say(console, f"{name} answers from the next start on.{again}")
    return 0


def remove(settings: MeshSettings, places: Places, name: str, console: Console) -> int:
    """Delete the weights of a model. Raises ModelUnknown, and ModelInUse while the mesh runs with it."""
    folder = models_folder(settings, places)
    weights = _found(folder, name)
    running = _running(places)
    if running is not None and running.model == weights.name:
        raise ModelInUse(
            f"The running mesh answers with {weights.title}.", "End it first, or `mesh models use` another."
        )
    file = file_of(weights, folder)
    freed = 0
    for path in (file, file.with_name(f"{file.name}.partial"), file.with_name(f"{file.name}.verified")):
        if path.exists():
            freed += path.stat().st_size
            path.unlink()
    forget(folder, name)
    _say(console, f"{weights.title} is removed, {size(freed)} are free again.")
    return 0


def _marks(settings: MeshSettings, folder: Path, name: str, weights: Weights) -> tuple[tuple[str, bool], ...]:
    return (
        ("chosen", settings.model in (name, weights.name)),
        ("here", file_of(weights, folder).exists()),
        ("yours", bool(weights.address)),
    )


def _found(folder: Path, name: str) -> Weights:
    models = known(folder)
    if name not in models:
        raise ModelUnknown(
            f"There is no model called {name}.",
            f"There are {', '.join(models)}; `mesh models pull NAME --url … --sha256 …` adds any GGUF file.",
        )
    return models[name]


def _described(name: str, address: str, sha256: str) -> Weights:
    if not _NAME.fullmatch(name) or name in (*built_in(), SCRIPTED):
        raise ModelUnknown(
            f"{name} cannot be its name.", "Choose another of a-z, 0-9, dot, dash and underscore."
        )
    if not address.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise ModelUnknown(
            f"{address} is no address to get weights from.", "Give one that begins with https://."
        )
    if not _DIGEST.fullmatch(sha256):
        raise ModelUnknown("The SHA-256 is not one.", "Give the 64 hexadecimal digits its publisher names.")
    try:
        count = length(address)
    except SourceFailed as failure:
        raise ModelUnavailable(
            f"{address} could not be asked: {failure}.", "Check the address and the network."
        ) from failure
    return Weights(
        name=name,
        title=name,
        licence="see its publisher",
        file=f"{name}.gguf",
        bytes=count,
        sha256=sha256,
        memory=count + _ROOMS_MEMORY,
        address=address,
    )


def _set(file: Path, key: str, value: str) -> None:
    """Set one key of mesh.toml and leave everything else as it was written."""
    try:
        document = tomlkit.parse(file.read_text("utf-8")) if file.exists() else tomlkit.document()
    except TOMLKitError as error:
        raise SettingsInvalid(f"{file} is not TOML: {error}.", "Correct it first.") from error
    if key in document or not document:
        document[key] = value
        text = tomlkit.dumps(document)
    else:  # a new key belongs above the first table
        text = tomlkit.dumps({key: value}) + tomlkit.dumps(document)
    write_whole(file, (text if text.endswith("\n") else text + "\n").encode())


def _running(places: Places) -> record.Record | None:
    try:
        return record.running(places)
    except MeshError:
        return None


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
