"""Which servers there are (`mcp.toml`), and which of their tools the operator approved (`tools.lock`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from chassis import strongbox
from chassis.keys import KeyRefused

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
S = TypeVar("S", bound=msgspec.Struct)
FILE, LOCK = "mcp.toml", "tools.lock"
_BYTES = 1024 * 1024


class ConfigurationBroken(Exception):
    """A file of the operator cannot be read. `str()` of it says why."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One server: `url` (streamable HTTP) or `command` (a program in a cell, over stdin and stdout).

    `private`: its host may be on this machine or network. Its token is in `token_file`, else it
    is the secret MCP_<NAME>_TOKEN, if there is one. A program gets the token in the variable `token_variable`.
    `files` are what a program's cell shows besides the system; `environment` its variables.
    `effects` wins over what the server says of its tools.
    """

    url: str = ""
    command: tuple[str, ...] = ()
    private: bool = False
    token_file: str = ""
    token_variable: str = ""
    files: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    timeout: Annotated[float, msgspec.Meta(gt=0, le=120)] = 30.0
    effects: Mapping[str, Literal["none", "reads_out", "effect"]] = {}


class _Servers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    servers: Mapping[str, Server] = {}


class _Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    servers: Mapping[str, Mapping[str, str]] = {}


def servers(folder: Path) -> Mapping[str, Server]:
    """The servers of `mcp.toml`. Raises ConfigurationBroken."""
    found = _read(folder / FILE, _Servers).servers
    for name, server in found.items():
        if not _NAME.fullmatch(name):
            raise ConfigurationBroken(
                f"{FILE}: a server is called {name[:40]!r}: small letters, digits and -"
            )
        if bool(server.url) == bool(server.command):
            raise ConfigurationBroken(f"{FILE}: {name} needs either url or command")
    return found


def approved(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """The digests of `tools.lock`, by server and tool. Raises ConfigurationBroken."""
    return _read(folder / LOCK, _Lock).servers


def token(name: str, server: Server, data: Path, keys: Path) -> str:
    """The server's own token; empty when it has none. Raises ConfigurationBroken."""
    try:
        if server.token_file:
            return Path(server.token_file).read_text("utf-8").strip()
        kept = strongbox.read(data / strongbox.FILE, keys / strongbox.KEY)
    except (OSError, UnicodeError, KeyRefused) as error:
        raise ConfigurationBroken(f"the token of {name} cannot be read") from error
    return kept.get(f"MCP_{name.upper().replace('-', '_')}_TOKEN", "")


def digest(name: str, description: str, schema: Mapping[str, Any], annotations: object) -> str:
    """What the operator approves of a tool: all that a model or the policy reads of it."""
    told = json.dumps([name, description, schema, annotations], sort_keys=True, ensure_ascii=False)
    return sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _read(file: Path, into: type[S]) -> S:
    try:
        if file.stat().st_size > _BYTES:
            raise ConfigurationBroken(f"{file.name} is too large")
        return msgspec.toml.decode(file.read_bytes(), type=into)
    except FileNotFoundError:
        return into()
    except (OSError, UnicodeError, msgspec.DecodeError) as error:
        raise ConfigurationBroken(f"{file.name}: {error}") from error
