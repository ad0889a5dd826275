"""What agents' turns begin with, kept from one start to the next, so that the engine reads it before it is asked.

The contract keeps everything a client, a tool or a page supplied out of a window's system text, so nothing of
a person's is in the file: the system text, and the tools on offer with the first lines of their descriptions.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from llm_svc.generation import Request, Role, Tool

MAX_CHARS = 65_536
FILE = "standing.json"


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """The system text of an agent's turn, and (name, first line of the description) of each tool it was offered."""

    system: str = ""
    offered: tuple[tuple[str, str], ...] = ()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools, as far as the router's question names them."""
        return tuple(Tool(name=name, description=line, schema="{}") for name, line in self.offered)


def beginning_of_turn(request: Request) -> Beginning:
    """What turns like this one begin with."""
    system = next((message.text for message in request.messages if message.role is Role.SYSTEM), "")
    offered = tuple((tool.name, tool.description.strip().partition("\n")[0]) for tool in request.tools)
    return Beginning(system=system, offered=offered)


class Standing:
    """One beginning in one file of the state folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._kept = self._read()

    @property
    def beginning(self) -> Beginning:
        """The newest one that was kept; empty at the very first start."""
        return self._kept

    def keep(self, beginning: Beginning) -> None:
        """Remember it for the next start. One that is known already, or very long, is not written."""
        if beginning == self._kept or not beginning.system:
            return
        data = msgspec.json.encode(beginning)
        if len(data) > MAX_CHARS:
            return
        fresh = self._file.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(self._file)
        self._kept = beginning

    def _read(self) -> Beginning:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Beginning)
        except (OSError, msgspec.DecodeError):
            return Beginning()
