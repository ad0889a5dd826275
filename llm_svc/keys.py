"""Provider keys: out of a setting, a file, or the environment. Never shown, never logged.

The one place that reads them: keys of an encrypted secrets file come in here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from llm_svc.errors import RosterInvalid

_MOST_BYTES = 16 * 1024


def key(given: SecretStr, file: Path | None, folder: Path) -> str:
    """The key itself: the setting's, else the file's first line, relative to the data folder; else empty."""
    return given.get_secret_value() or (_read(folder / file) if file is not None else "")


def server_key(name: str, file: str, environment: Mapping[str, str], folder: Path) -> str:
    """The key of a server of ``models.toml``: ``LLM_<NAME>_KEY``, else its file, relative to the data folder."""
    variable = f"LLM_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_KEY"
    return environment.get(variable, "") or (_read(folder / file) if file else "")


def _read(file: Path) -> str:
    try:
        with file.open() as opened:
            return opened.read(_MOST_BYTES).strip().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as wrong:
        raise RosterInvalid(f"the key file {file} cannot be read: {type(wrong).__name__}") from None
