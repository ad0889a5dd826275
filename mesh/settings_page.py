"""Writes docs/settings.md and .env.example from the settings classes: `make docs`.

The rooms are started as programs and never imported here; each tells its settings when asked for them.
"""

import json
import subprocess
import sys
from pathlib import Path

from chassis.settings import Described, describe
from mesh.rooms import REPOSITORY, ROOMS
from mesh.settings import MeshSettings

PAGE = REPOSITORY / "docs" / "settings.md"
EXAMPLE = REPOSITORY / ".env.example"
REMEDY = "`make docs` writes them anew"
_GIVEN = (
    "LISTEN",
    "DATA_DIR",
    "KEYS_DIR",
    "OPERATOR_LISTEN",
    "MCP_LISTEN",
    "REFERENCE_DIR",
)  # what `mesh up` sets by itself
_ASK = (
    "import importlib, json, sys, dataclasses; from chassis.settings import Settings, describe\n"
    "module = importlib.import_module(sys.argv[1] + '.settings')\n"
    "found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Settings)"
    " and each.__module__ == module.__name__]\n"
    "print(json.dumps([dataclasses.asdict(line) for each in found for line in describe(each)]))"
)


def pages() -> dict[Path, str]:
    """Each file with the text it should have."""
    tables = {"mesh": describe(MeshSettings)} | {f"{room}_svc": _told(f"{room}_svc") for room in ROOMS}
    return {PAGE: _page(tables), EXAMPLE: _example(tables)}


def _told(room: str) -> list[Described]:
    asked = subprocess.run(  # noqa: S603 - this interpreter, and words of ours
        [sys.executable, "-c", _ASK, room], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [Described(**line) for line in json.loads(asked.stdout)]


def _page(tables: dict[str, list[Described]]) -> str:
    parts = [
        "# Settings",
        "",
        "Made by `make docs` from the settings classes. Each can stand in the environment; those of `mesh` in",
        "`<data folder>/mesh.toml` too, without their prefix, and those of a room there in a table named after it:",
        "`[llm]` with `openai_base_url = …` is `LLM_OPENAI_BASE_URL`. The environment wins.",
        "",
        "A room's address is `unix:/path`, `host:port` (every address of that name, in turn) or a list, in turn too:",
        "`ipv4:10.0.0.5:7000,10.0.0.6:7000`. On a network both sides show a certificate (`…_TLS_DIR`).",
    ]
    for name, lines in tables.items():
        parts += ["", f"## {name}", "", "| name | default | what it does |", "| --- | --- | --- |"]
        parts += [f"| `{line.name}` | {_shown(line)} | {_cell(line.description)} |" for line in lines]
    return "\n".join(parts) + "\n"


def _shown(line: Described) -> str:
    if line.name.partition("_")[2] in _GIVEN and line.name.partition("_")[0] != "MESH":
        return "set by `mesh up`"
    default = line.default.replace(str(REPOSITORY) + "/", "")
    return f"`{default}`" if default not in ("", "required") else default


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _example(tables: dict[str, list[Described]]) -> str:
    parts = ["# Settings with their defaults, made by `make docs`. Copy what you change."]
    for name, lines in tables.items():
        parts += ["", f"# --- {name}"]
        for line in lines:
            if _shown(line) in ("set by `mesh up`", "required"):
                continue
            parts += [f"# {_cell(line.description)}", f"# {line.name}={_shown(line).strip('`')}"]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write both files."""
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
