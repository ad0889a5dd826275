"""`mesh account`: what the person signed in at this terminal sees and changes of their own account."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from prompt_toolkit import PromptSession
from rich.console import Console
from rich.table import Table

from chassis import ids
from mesh.chat import signed_in
from mesh.credentials import Wallet
from mesh.peers import Account
from mesh.people import DeviceLine
from mesh.places import Places
from mesh.printable import printable

AskPasswords = Callable[[bool], Awaitable[tuple[str, str]]]
"""Asks for the password until now (unless it is known) and the new one."""


async def show(places: Places, console: Console) -> int:
    """Print who is signed in. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        me = await Account(channel, sign_in.bearer).me()
    said = f"{printable(me.name)} <{printable(me.email)}>\naccount {me.id}\ndevice {me.device}"
    console.print(said, markup=False, highlight=False)
    return 0


async def devices(places: Places, console: Console) -> int:
    """Print the person's devices, the one used last first. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        console.print(_table(await Account(channel, sign_in.bearer).devices()))
    return 0


async def revoke(places: Places, device: str, console: Console) -> int:
    """Sign a device out from afar. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        await Account(channel, sign_in.bearer).revoke(device)
    console.print(f"{device} is signed out.", markup=False, highlight=False)
    return 0


async def password(places: Places, console: Console, ask: AskPasswords | None = None) -> int:
    """Set a new password; every other device is signed out. Raises MeshError."""
    wallet = Wallet(places.client / "credentials.json")
    async with signed_in(places) as (channel, sign_in):
        await sign_in.bearer()
        stored = wallet.load()
        kept = stored.password if stored else ""
        typed, fresh = await (ask or _ask)(not kept)
        ended = await Account(channel, sign_in.bearer).change_password(
            ids.uuid(), current=kept or typed, fresh=fresh
        )
        if (now := wallet.load()) is not None and kept:
            wallet.store(replace(now, password=fresh))
    console.print(f"The password is changed; {ended} other devices are signed out.", highlight=False)
    return 0


async def _ask(with_current: bool) -> tuple[str, str]:
    asking: PromptSession[str] = PromptSession()
    current = await asking.prompt_async("Password until now: ", is_password=True) if with_current else ""
    return current, await asking.prompt_async("New password: ", is_password=True)


def _table(lines: list[DeviceLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "", "last use (UTC)", "network", "id"):
        table.add_column(heading, no_wrap=heading == "id")
    for line in lines:
        state = "this one" if line.current else "signed in" if line.signed_in else "signed out"
        table.add_row(printable(line.name), state, line.last_use, line.network, line.id)
    return table
