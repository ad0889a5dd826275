"""`mesh tools`: what the assistant can do, and which of it is turned on."""

from rich.console import Console
from rich.table import Table

from mesh.chat import signed_in
from mesh.peers import Agent
from mesh.people import ActionLine
from mesh.places import Places
from mesh.printable import printable


async def tools(places: Places, console: Console) -> int:
    """Print the actions by name. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        actions = await Agent(channel, sign_in.bearer).actions()
    console.print(_table(actions))
    if any(action.state == "not configured" for action in actions):
        console.print("docs/tools.md says how to turn on what is not configured.", highlight=False)
    return 0


def _table(lines: list[ActionLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("action", "state", "effect", "agent", "what it does"):
        table.add_column(heading, no_wrap=heading == "action")
    for line in lines:
        table.add_row(
            printable(line.name), line.state, line.effect, printable(line.agent), printable(line.description)
        )
    return table
