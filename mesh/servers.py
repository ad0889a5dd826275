"""The owner's files about servers of tools: `mcp.toml` names them, `tools.lock` pins what was approved."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table
from tomlkit.exceptions import TOMLKitError

from chassis.settings import environment
from chassis.whole import write_whole
from mesh.errors import ServerUnusable
from mesh.places import Places
from mesh.printable import printable
from mesh.rooms import REPOSITORY
from mesh.settings import MeshSettings, for_rooms

FILE, LOCK = "mcp.toml", "tools.lock"
_PATIENCE = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A server to add: an address, or a program with its arguments."""

    name: str
    url: str = ""
    private: bool = False
    files: Sequence[str] = ()
    program: Sequence[str] = ()


def names(places: Places) -> list[str]:
    """The servers by name. Raises ServerUnusable."""
    return sorted(_read(places.data / FILE).get("servers", {}))


def plugins_folder(settings: MeshSettings, places: Places) -> Path:
    """Where the room looks for plugins."""
    own = for_rooms(settings)["orchestrator"].get("ORCHESTRATOR_PLUGINS_DIR")
    return Path(own) if own else places.data / "plugins"


def add(settings: MeshSettings, places: Places, wanted: Wanted, console: Console) -> None:
    """Write a server down. Raises ServerUnusable."""
    if bool(wanted.url) == bool(wanted.program):
        raise ServerUnusable(
            "A server is either an address or a program.",
            f"mesh mcp add {wanted.name} --url https://… or mesh mcp add {wanted.name} -- program argument …",
        )
    places.make()
    document = _read(places.data / FILE)
    table = tomlkit.table()
    if wanted.url:
        table["url"] = wanted.url
    else:
        table["command"] = list(wanted.program)
    if wanted.private:
        table["private"] = True
    if wanted.files:
        table["files"] = [str(Path(each).absolute()) for each in wanted.files]
    if "servers" not in document:
        document["servers"] = tomlkit.table(is_super_table=True)
    if wanted.name in document["servers"]:
        raise ServerUnusable(
            f"There is a server called {wanted.name} already.", f"`mesh mcp remove {wanted.name}` forgets it."
        )
    document["servers"][wanted.name] = table
    _write(places.data / FILE, document)
    console.print(f"{wanted.name} is in {places.data / FILE}.", markup=False, highlight=False, soft_wrap=True)


def remove(places: Places, name: str, console: Console) -> int:
    """Forget a server and what was approved of it. Raises ServerUnusable."""
    if name not in names(places):
        raise ServerUnusable(f"There is no server called {name}.", "`mesh mcp list` shows them.")
    for file in (places.data / FILE, places.data / LOCK):
        document = _read(file)
        if document.get("servers", {}).pop(name, None) is not None:
            _write(file, document)
    console.print(f"{name} is gone.", markup=False, highlight=False)
    return 0


def approve(
    settings: MeshSettings,
    places: Places,
    name: str,
    console: Console,
    *,
    yes: bool,
    ask: Callable[[str], bool] | None = None,
) -> int:
    """Show what a server offers now, and pin it when its owner agrees. Raises ServerUnusable."""
    tools = [each for each in look(settings, places, name) if not each["fault"]]
    pinned = _read(places.data / LOCK).get("servers", {}).get(name, {})
    console.print(_table(tools, pinned))
    if not tools or not (yes or (ask or _asked)(f"Let your assistant use these {len(tools)} tools?")):
        console.print("Nothing was approved.")
        return 1
    document = _read(places.data / LOCK)
    if "servers" not in document:
        document["servers"] = tomlkit.table(is_super_table=True)
    document["servers"][name] = {each["tool"]: each["digest"] for each in tools}
    _write(places.data / LOCK, document)
    console.print(
        f"{len(tools)} tools of {name} are approved, from the next message on.", markup=False, highlight=False
    )
    return 0


def look(settings: MeshSettings, places: Places, name: str) -> list[dict[str, Any]]:
    """What a server offers now, as the room that uses it sees it. Raises ServerUnusable."""
    program = subprocess.run(  # noqa: S603 - this interpreter, and words of ours
        (sys.executable, "-P", "-m", "orchestrator_svc.servers.look", name),
        env={
            "PATH": environment().get("PATH", os.defpath),
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "generated"))),
            "ORCHESTRATOR_DATA_DIR": str(places.data),
            "ORCHESTRATOR_KEYS_DIR": str(places.keys),
            "ORCHESTRATOR_UNSANDBOXED": for_rooms(settings)["orchestrator"].get(
                "ORCHESTRATOR_UNSANDBOXED", ""
            ),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    try:
        told = json.loads(program.stdout)
    except ValueError as error:
        raise ServerUnusable(f"{name} could not be looked at.", "`mesh doctor` looks for a cause.") from error
    if "trouble" in told:
        cure = f"Correct {places.data / FILE}, then `mesh mcp approve {name}`."
        raise ServerUnusable(f"{name} cannot be used: {told['trouble'].rstrip('.')}.", cure)
    return list(told["tools"])


def _table(tools: Sequence[Mapping[str, str]], pinned: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("tool", "", "effect", "what it says it does"):
        table.add_column(heading, no_wrap=heading == "tool")
    for each in tools:
        before = pinned.get(each["tool"])
        news = "new" if before is None else "" if before == each["digest"] else "changed"
        table.add_row(printable(each["name"]), news, each["effect"], printable(each["description"]))
    return table


def _read(file: Path) -> Any:
    try:
        return tomlkit.parse(file.read_text("utf-8")) if file.exists() else tomlkit.document()
    except (OSError, UnicodeError, TOMLKitError) as error:
        raise ServerUnusable(f"{file} cannot be read: {error}.", "Correct it.") from error


def _write(file: Path, document: Any) -> None:
    write_whole(file, tomlkit.dumps(document).encode())


def _asked(question: str) -> bool:
    return sys.stdin.isatty() and Confirm.ask(question)
