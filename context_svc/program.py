"""Which version of the program runs."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_DISTRIBUTION = "assistant-mesh"


def program_version() -> str:
    """The installed version, or that of the source tree the program runs from."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        project = Path(__file__).parent.parent / "pyproject.toml"
        return str(tomllib.loads(project.read_text())["project"]["version"])
