from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.interaction.accounts.house import House, Mesh

_databases = itertools.count(1)


async def new_database(server: str) -> str:
    """A database of its own, with room for the schemas of both rooms."""
    name = f"house{next(_databases)}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
async def house(request: pytest.FixtureRequest, tmp_path: Path, socket_dir: Path) -> House:
    """An empty mesh on each engine."""
    url = await new_database(request.getfixturevalue("postgres_url")) if request.param == "postgres" else ""
    return House(folder=tmp_path / "house", sockets=socket_dir, database=url)


@pytest.fixture
async def mesh(house: House) -> AsyncIterator[Mesh]:
    """It, running."""
    async with house.running() as running:
        yield running
