"""`mesh status`: every room asked for its health, and the mesh for its figures."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mesh import record
from mesh.errors import CallFailed
from mesh.health import MeshStatus, Row, rows
from mesh.peers import Operator, door, serving
from mesh.places import Places
from mesh.rooms import EDGE, ROOMS, Admin, Health, Readiness, admin_socket, operator_socket, socket


async def status(places: Places, console: Console) -> int:
    """Print how every room is; answer 0 only when all of them serve. Raises NotRunning."""
    running = record.running(places)
    where = Places(data=places.data, run=Path(running.run))
    found, told = await asyncio.gather(_probe(where), _ask(where))
    console.print(
        f"mesh on port {running.port}, model {running.model}, process {running.pid}", highlight=False
    )
    _print(rows(found, told), console)
    if told is not None:
        turns = ", ".join(f"{count} {state}" for state, count in told.turns.items())
        console.print(f"turns: {turns}", highlight=False)
        if code := await setup_code(where):
            console.print(f"set-up code for the first account: {code}", highlight=False)
    return 0 if all(found.values()) else 1


async def setup_code(places: Places) -> str:
    """Answer the code for the first account; empty once there is one. Raises CallFailed."""
    async with door(f"unix:{operator_socket(places)}") as channel:
        return await Operator(channel).setup_code()


def _readiness(places: Places) -> Mapping[str, Readiness]:
    return {name: Health(socket=socket(places, name)) for name in ROOMS} | {
        EDGE: Admin(socket=admin_socket(places))
    }


async def _probe(places: Places) -> Mapping[str, bool]:
    wanted = _readiness(places)
    answers = await asyncio.gather(*(serving(each) for each in wanted.values()))
    return dict(zip(wanted, answers, strict=True))


async def _ask(places: Places) -> MeshStatus | None:
    try:
        async with door(f"unix:{operator_socket(places)}") as channel:
            return await Operator(channel).status()
    except CallFailed:
        return None


def _print(lines: list[Row], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("room", "", "version", "streams", "note"):
        table.add_column(heading)
    for line in lines:
        state = "[green]serving[/]" if line.serving else "[red]not serving[/]"
        table.add_row(line.name, state, line.version, line.streams, line.note)
    console.print(table)
