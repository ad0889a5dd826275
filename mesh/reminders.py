"""`mesh reminders`: what is still to come and what came, and taking one back."""

from rich.console import Console

from mesh.chat import signed_in
from mesh.known.peers import Known
from mesh.known.tables import columns
from mesh.places import Places
from mesh.printable import printable


async def reminders(places: Places, console: Console) -> int:
    """Print the reminders by time. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        lines = await Known(channel, sign_in.bearer).reminders()
    table = columns("when", "what", "", "id")
    for line in lines:
        table.add_row(line.due, printable(line.text), line.state, line.id)
    console.print(table if lines else "There are no reminders. Ask for one in `mesh chat`.")
    return 0


async def cancel(places: Places, reminder: str, console: Console) -> int:
    """Take one back. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        await Known(channel, sign_in.bearer).take_back(reminder)
    console.print("Taken back.")
    return 0
