"""`mesh user`: what the owner of the machine does with accounts, through the operator's own socket."""

from rich.console import Console
from rich.table import Table

from chassis import ids
from mesh.errors import UserUnknown
from mesh.operator import operator
from mesh.peers import Operator
from mesh.people import UserLine
from mesh.places import Places
from mesh.printable import printable


async def invite(places: Places, email: str, console: Console) -> int:
    """Print a code with which one person can register. Raises MeshError."""
    async with operator(places) as asked:
        made = await asked.invite(ids.uuid(), email)
    console.print(f"invite code: {made.code}\ngood once, until {made.expires} UTC", highlight=False)
    return 0


async def users(places: Places, console: Console) -> int:
    """Print the accounts, the oldest first. Raises MeshError."""
    async with operator(places) as asked:
        console.print(_table(await asked.users()))
    return 0


async def reset(places: Places, user: str, console: Console) -> int:
    """Give an account a new password, print it, and sign its devices out. Raises MeshError."""
    async with operator(places) as asked:
        found = await _named(asked, user)
        password = await asked.reset_password(ids.uuid(), found.id)
    console.print(f"new password of {printable(found.email)}: {password}", markup=False, highlight=False)
    console.print("Its devices are signed out.", highlight=False)
    return 0


async def sign_out(places: Places, user: str, block: bool, console: Console) -> int:
    """End an account's sign-ins; blocked, it cannot sign in until this is run without. Raises MeshError."""
    async with operator(places) as asked:
        found = await _named(asked, user)
        ended = await asked.revoke(ids.uuid(), found.id, block=block)
    state = " It cannot sign in until you run this without --block." if block else ""
    console.print(
        f"{printable(found.email)}: {ended} devices signed out.{state}", markup=False, highlight=False
    )
    return 0


async def delete(places: Places, user: str, confirm: str, console: Console) -> int:
    """Delete an account and everything of it, named by its address once more. Raises MeshError."""
    async with operator(places) as asked:
        found = await _named(asked, user)
        deadline = await asked.delete(ids.uuid(), found.id, confirm)
    console.print(
        f"{printable(found.email)} is deleted; it is erased by {deadline} UTC.", markup=False, highlight=False
    )
    return 0


async def _named(asked: Operator, user: str) -> UserLine:
    """The account of an id or an address. Raises UserUnknown."""
    for each in await asked.users():
        if user == each.id or user.casefold() == each.email.casefold():
            return each
    raise UserUnknown(f"No account has the id or address {user}.", "`mesh user list` shows the accounts.")


def _table(lines: list[UserLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("address", "name", "", "devices", "sessions", "last use (UTC)", "id"):
        table.add_column(heading, no_wrap=heading == "id")
    for line in lines:
        table.add_row(
            printable(line.email),
            printable(line.name),
            line.state,
            str(line.devices),
            str(line.sessions),
            line.last_use,
            line.id,
        )
    return table
