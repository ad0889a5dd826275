"""What the owner adds to the assistant, on the command line: `mesh plugins` and `mesh mcp …`."""

import argparse
import asyncio

from rich.console import Console
from rich.table import Table

from mesh import servers
from mesh.chat import signed_in
from mesh.errors import MeshError
from mesh.peers import Agent
from mesh.people import ActionLine
from mesh.places import Places
from mesh.printable import printable
from mesh.settings import MeshSettings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    commands.add_parser("plugins", help="list the plugins and their actions, and what is wrong with them")
    mcp = commands.add_parser("mcp", help="servers of tools that your assistant may use")
    actions = mcp.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list the servers and their tools, and what is wrong with them")
    adding = actions.add_parser("add", help="add a server, look at its tools and approve them")
    adding.add_argument("name", help="small letters, digits and -")
    adding.add_argument("--url", default="", help="address of a server that speaks streamable HTTP")
    adding.add_argument(
        "--private", action="store_true", help="the address may be on this machine or network"
    )
    adding.add_argument("--file", action="append", default=[], help="a file or folder its program may read")
    adding.add_argument("--yes", action="store_true", help="approve its tools without asking")
    adding.add_argument("program", nargs="*", help="behind --: a program to run in a sandbox")
    approving = actions.add_parser("approve", help="look at a server's tools and approve them as they are")
    approving.add_argument("name")
    approving.add_argument("--yes", action="store_true", help="without asking")
    actions.add_parser("remove", help="forget a server and its approvals").add_argument("name")


def plugins(settings: MeshSettings, places: Places, console: Console) -> int:
    """Print each plugin's actions and what is wrong. Raises MeshError."""
    lines = asyncio.run(_added(places, "plugin"))
    folder = servers.plugins_folder(settings, places)
    console.print(
        _table(lines) if lines else f"There are no plugins in {folder}.", highlight=False, soft_wrap=True
    )
    return 1 if any(line.state != "ready" for line in lines) else 0


def mcp(settings: MeshSettings, places: Places, told: argparse.Namespace, console: Console) -> int:
    """Perform one of the actions. Raises MeshError."""
    match told.action:
        case "add":
            server = servers.Wanted(
                name=told.name, url=told.url, private=told.private, files=told.file, program=told.program
            )
            servers.add(settings, places, server, console)
            return servers.approve(settings, places, told.name, console, yes=told.yes)
        case "approve":
            return servers.approve(settings, places, told.name, console, yes=told.yes)
        case "remove":
            return servers.remove(places, told.name, console)
        case _:
            return _list(places, console)


def _list(places: Places, console: Console) -> int:
    names = servers.names(places)
    if not names:
        console.print("There are no servers. `mesh mcp add` adds one.", highlight=False)
        return 0
    try:
        lines = asyncio.run(_added(places, "mcp"))
    except MeshError as error:
        console.print(f"Servers: {', '.join(names)}. {error.what}", markup=False, highlight=False)
        return 1
    console.print(_table(lines))
    return 1 if any(line.state != "ready" for line in lines) else 0


async def _added(places: Places, origin: str) -> list[ActionLine]:
    async with signed_in(places) as (channel, sign_in):
        return [line for line in await Agent(channel, sign_in.bearer).actions() if line.origin == origin]


def _table(lines: list[ActionLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("from", "action", "state", "effect", "what it does, or what is wrong"):
        table.add_column(heading, no_wrap=heading in ("from", "action"))
    for line in lines:
        told = line.why or line.description
        table.add_row(printable(line.agent), printable(line.name), line.state, line.effect, printable(told))
    return table
