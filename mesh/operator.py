"""The operator's own socket of the mesh that runs here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh import record
from mesh.peers import Operator, door
from mesh.places import Places
from mesh.rooms import operator_socket


@asynccontextmanager
async def operator(places: Places) -> AsyncIterator[Operator]:
    """What the owner of this machine may ask. Raises NotRunning."""
    where = Places(data=places.data, run=Path(record.running(places).run))
    async with door(f"unix:{operator_socket(where)}") as channel:
        yield Operator(channel)
