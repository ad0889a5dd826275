"""`mesh doctor`: looks at everything a mesh needs on this machine and tells each thing that is wrong, with
its cure.
"""

import contextlib
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console

from chassis.clock import Clock
from mesh import edge, keys, ports, record
from mesh.errors import MeshError
from mesh.machine import existing, glibc, machine
from mesh.manifest import size
from mesh.places import Places
from mesh.settings import MeshSettings
from mesh.up import chosen, models_folder
from mesh.weights import digest, file_of

MOST = 100  # the exit code is the number of problems, and a shell knows no larger ones
_BUILT_US = 1_760_000_000_000_000  # no release of this code is older: an earlier clock is wrong
_FAR = timedelta(days=3650)
_SPARE_DISK = 1_000_000_000
_SPARE_MEMORY = 1_000_000_000
_OLDEST_GLIBC = (2, 28)
_SAFE_SQLITE = (3, 51, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something wrong, and what to do about it."""

    what: str
    cure: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one look found: a fact worth telling, and the problems in it."""

    name: str
    fact: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """What is looked at."""

    settings: MeshSettings
    places: Places
    clock: Clock


Look = Callable[[Patient], Finding]


def examine(patient: Patient) -> Iterator[Finding]:
    """Answer what each look finds, one after the other. Changes nothing."""
    for look in LOOKS:
        yield look(patient)


def doctor(patient: Patient, console: Console) -> int:
    """Print every finding; answer the number of problems, at most MOST: the exit code."""
    problems = 0
    for finding in examine(patient):
        problems += len(finding.problems)
        mark = "[red]✗[/]" if finding.problems else "[green]✓[/]"
        console.print(mark, end=" ")
        console.print(f"{finding.name}: {finding.fact}", markup=False, highlight=False)
        for problem in finding.problems:
            console.print(f"    {problem.what}\n    → {problem.cure}", markup=False, highlight=False)
    console.print("All is well." if not problems else f"{problems} to put right.")
    return min(problems, MOST)


def look_at_port(patient: Patient) -> Finding:
    """The public port is free, or it is this mesh that has it."""
    settings = patient.settings
    name, fact = "port", f"{settings.port} on {settings.bind}"
    if record.is_owned(patient.places):
        return Finding(name=name, fact=f"{fact}, in use by this mesh")
    try:
        ports.require_free(settings.bind, settings.port)
    except MeshError as error:
        return _found(name, fact, error)
    return Finding(name=name, fact=f"{fact} is free")


def look_at_model(patient: Patient) -> Finding:
    """The chosen weights are here and are the pinned bytes (all of them are read)."""
    name, folder = "model", models_folder(patient.settings, patient.places)
    try:
        choice = chosen(patient.settings, folder, machine(folder))
    except MeshError as error:
        return _found(name, patient.settings.model, error)
    if choice.weights is None:
        return Finding(name=name, fact=choice.note)
    weights, file = choice.weights, file_of(choice.weights, folder)
    fact = f"{weights.title}. {choice.note}".rstrip(" .")
    if not file.exists():
        cure = f"`make run` gets it ({size(weights.bytes)})."
        return Finding(name=name, fact=fact, problems=(Problem(what=f"{file} is missing.", cure=cure),))
    if (got := digest(file)) != weights.sha256:
        what = f"{file} has SHA-256 {got}, not {weights.sha256}."
        return Finding(
            name=name, fact=fact, problems=(Problem(what=what, cure="Remove it; `make run` gets it."),)
        )
    return Finding(name=name, fact=fact)


def look_at_sqlite(_: Patient) -> Finding:
    """SQLite before 3.51.3 can lose commits in WAL mode with several connections; the rooms use exactly
    one.
    """
    version = sqlite3.sqlite_version_info
    fact = f"{sqlite3.sqlite_version}, one exclusive connection for each database"
    if version < _SAFE_SQLITE:
        fact += (
            " (needed: before 3.51.3 several connections can lose commits, so open it with no other program)"
        )
    if version < (3, 35, 0):
        old = Problem(what="SQLite is older than 3.35.", cure="Use a newer Python, which brings its own.")
        return Finding(name="SQLite", fact=fact, problems=(old,))
    return Finding(name="SQLite", fact=fact)


def look_at_clock(patient: Patient) -> Finding:
    """The clock says a date that can be true; tokens and timers depend on it."""
    now = patient.clock.now_us()
    cure = "Set the date, or switch time synchronisation on (timedatectl set-ntp true)."
    if now < _BUILT_US or now > _BUILT_US + _FAR // timedelta(microseconds=1):
        return Finding(
            name="clock", fact="wrong", problems=(Problem(what="The date cannot be right.", cure=cure),)
        )
    ahead = _newest_us(patient.places) - now
    if ahead > timedelta(minutes=5) // timedelta(microseconds=1):
        what = f"The clock is {ahead // 60_000_000} min behind what this mesh wrote before."
        return Finding(name="clock", fact="went back", problems=(Problem(what=what, cure=cure),))
    return Finding(name="clock", fact="plausible")


def look_at_disk(patient: Patient) -> Finding:
    """There is room to write."""
    free = machine(patient.places.data).disk
    fact = f"{size(free)} free"
    if free < _SPARE_DISK:
        short = Problem(
            what=f"Less than {size(_SPARE_DISK)} is free.", cure="Free some, or set MESH_DATA_DIR elsewhere."
        )
        return Finding(name="disk", fact=fact, problems=(short,))
    return Finding(name="disk", fact=fact)


def look_at_memory(patient: Patient) -> Finding:
    """There is memory for the rooms and the model that was asked for."""
    folder = models_folder(patient.settings, patient.places)
    offered = machine(folder)
    fact = f"{size(offered.memory)} in all"
    try:
        weights = chosen(patient.settings, folder, offered).weights
    except MeshError:
        weights = None
    needed = weights.memory if weights else _SPARE_MEMORY
    if offered.memory < needed:
        cure = "Choose a smaller model (MESH_MODEL=light or tiny), or one of a provider."
        short = Problem(what=f"The mesh and its model want {size(needed)}.", cure=cure)
        return Finding(name="memory", fact=fact, problems=(short,))
    return Finding(name="memory", fact=fact)


def look_at_privacy(patient: Patient) -> Finding:
    """Nobody else on this machine can read the data folder or a key."""
    data = patient.places.data
    if not data.exists():
        return Finding(name="data folder", fact=f"{data} is made at the first start")
    problems = []
    if data.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        problems.append(Problem(what=f"{data} is open to others.", cure=f"chmod 700 {data}"))
    for path in keys.readable_by_others(patient.places.keys):
        what = f"{path} can be read by others."
        problems.append(
            Problem(what=what, cure=f"chmod 600 {path}; make a new one if somebody may have read it.")
        )
    return Finding(name="data folder", fact=str(data), problems=tuple(problems))


def look_at_envoy(patient: Patient) -> Finding:
    """Envoy's program runs here and is the version the edge is written for."""
    try:
        version = edge.version(edge.program(patient.settings))
    except MeshError as error:
        return _found("Envoy", "unusable", error)
    if not version.startswith(f"{edge.VERSION}."):
        other = Problem(
            what=f"The edge is written for {edge.VERSION}.",
            cure="Run `make setup` again; on an old system set MESH_ENVOY_BINARY to one of that version.",
        )
        return Finding(name="Envoy", fact=version, problems=(other,))
    return Finding(name="Envoy", fact=version)


def look_at_libc(_: Patient) -> Finding:
    """The packaged programs run with this C library."""
    version = glibc()
    if version is None:
        return Finding(name="C library", fact="not the GNU one: packaged programs may be missing")
    fact = ".".join(map(str, version))
    if version < _OLDEST_GLIBC:
        old = Problem(
            what="The packaged Envoy and engine need 2.28.", cure="Use a newer system, or a container."
        )
        return Finding(name="C library", fact=fact, problems=(old,))
    return Finding(name="C library", fact=fact)


def look_at_record(patient: Patient) -> Finding:
    """No record of a mesh that is not there."""
    places = patient.places
    if record.is_owned(places):
        return Finding(name="mesh", fact="running")
    if (left := record.last(places)) is None:
        return Finding(name="mesh", fact="not running")
    what = f"{places.record} tells of process {left.pid}, which is gone: it was killed."
    stale = Problem(what=what, cure="Nothing acknowledged is lost. The next `make run` replaces it.")
    return Finding(name="mesh", fact="not running", problems=(stale,))


LOOKS: tuple[Look, ...] = (
    look_at_record,
    look_at_port,
    look_at_privacy,
    look_at_envoy,
    look_at_libc,
    look_at_sqlite,
    look_at_clock,
    look_at_disk,
    look_at_memory,
    look_at_model,
)


def _newest_us(places: Places) -> int:
    """Answer when this mesh last wrote a log or a record, in microseconds."""
    newest = existing(places.data).stat().st_mtime
    for path in places.logs.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):  # it has another name by now
            newest = max(newest, path.stat().st_mtime)
    return int(newest * 1_000_000)


def _found(name: str, fact: str, error: MeshError) -> Finding:
    return Finding(name=name, fact=fact, problems=(Problem(what=error.what, cure=error.cure),))
