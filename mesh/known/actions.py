"""What the assistant knows of the person at this terminal: shown, changed and taken back (`mesh account …`)."""

import argparse
from collections.abc import Awaitable, Callable

from rich.console import Console

from chassis import ids
from mesh.chat import signed_in
from mesh.known.peers import Known
from mesh.known.tables import columns, memory_table
from mesh.peers import Account
from mesh.places import Places
from mesh.printable import printable

Action = Callable[[Places, argparse.Namespace, Console], Awaitable[int]]


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add what a person can ask here to the actions of a command."""
    actions.add_parser("preferences", help="show what you prefer and what else decides")
    preferring = actions.add_parser("prefer", help="set a preference, or take it back")
    preferring.add_argument("name", help="one that `preferences` lists")
    preferring.add_argument("value", nargs="?", default="", help="without it your choice is taken back")
    consenting = actions.add_parser("consent", help="what this device may report about itself")
    consenting.add_argument(
        "kind", nargs="?", default="", help="location, locale, time_zone, battery or network"
    )
    consenting.add_argument("decision", nargs="?", choices=("yes", "no"), help="without it: show them")
    consenting.add_argument("--anywhere", action="store_true", help="also for models that run elsewhere")
    actions.add_parser("memories", help="list what the assistant remembers of you")
    actions.add_parser("remember", help="add a memory").add_argument("text")
    editing = actions.add_parser("correct", help="change a memory")
    editing.add_argument("memory", help="its id")
    editing.add_argument("text")
    forgetting = actions.add_parser("forget", help="delete a memory")
    forgetting.add_argument("memory", help="its id, or `all`")
    suggesting = actions.add_parser("suggestions", help="list what the assistant proposes, or decide on one")
    suggesting.add_argument("suggestion", nargs="?", default="", help="its id")
    suggesting.add_argument("decision", nargs="?", choices=("accept", "dismiss"))


async def preferences(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Print the preferences in force, each with whose word it is. Raises MeshError."""
    table = columns("preference", "value", "decided by")
    async with signed_in(places) as (channel, sign_in):
        for line in await Known(channel, sign_in.bearer).preferences():
            table.add_row(line.name, printable(line.value), line.decided_by)
    console.print(table)
    return 0


async def prefer(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Set one preference, or take it back. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        await Known(channel, sign_in.bearer).prefer(ids.uuid(), told.name, told.value)
    said = f"{told.name} is {told.value}" if told.value else f"Your choice of {told.name} is taken back"
    console.print(f"{said}, from your next message on.", markup=False, highlight=False)
    return 0


async def consent(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Print this device's consents, or decide on one kind. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        known = Known(channel, sign_in.bearer)
        if told.kind and told.decision:
            device = (await Account(channel, sign_in.bearer).me()).device
            granted = told.decision == "yes"
            await known.decide(ids.uuid(), device, told.kind, granted=granted, anywhere=told.anywhere)
        lines = await known.consents()
    table = columns("kind", "reported", "may be processed")
    for line in lines:
        table.add_row(line.kind, "yes" if line.granted else "no", line.where if line.granted else "")
    console.print(table if lines else "This device reports nothing about itself.")
    return 0


async def memories(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Print every memory. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        lines = await Known(channel, sign_in.bearer).memories()
    console.print(memory_table(lines) if lines else "Nothing is remembered.")
    return 0


async def remember(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Add a memory. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        await Known(channel, sign_in.bearer).write_memory(ids.uuid(), ids.uuid(), told.text)
    console.print("Remembered.")
    return 0


async def correct(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Give a memory other words. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        await Known(channel, sign_in.bearer).correct_memory(ids.uuid(), told.memory, told.text)
    console.print("Corrected.")
    return 0


async def forget(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Delete one memory, or all. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        gone = await Known(channel, sign_in.bearer).forget(
            ids.uuid(), "" if told.memory == "all" else told.memory
        )
    console.print(f"{gone} forgotten." if gone else "There is no such memory.", highlight=False)
    return 0 if gone or told.memory == "all" else 1


async def suggestions(places: Places, told: argparse.Namespace, console: Console) -> int:
    """Print what is proposed, or accept or dismiss one. Raises MeshError."""
    async with signed_in(places) as (channel, sign_in):
        known = Known(channel, sign_in.bearer)
        if told.suggestion and told.decision:
            await known.resolve(ids.uuid(), told.suggestion, accept=told.decision == "accept")
        lines = await known.suggestions()
    table = columns("preference", "value", "seen in", "", "id")
    for line in lines:
        table.add_row(line.name, printable(line.value), f"{line.turns} turns", line.state, line.id)
    console.print(table if lines else "Nothing is proposed.")
    return 0


ACTIONS: dict[str, Action] = {
    "preferences": preferences,
    "prefer": prefer,
    "consent": consent,
    "memories": memories,
    "remember": remember,
    "correct": correct,
    "forget": forget,
    "suggestions": suggestions,
}
