from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.interaction.media_svc.mesh import Mesh, Person, Starter

_databases = itertools.count(1)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
async def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each engine; for SQLite the room's own default."""
    if request.param == "sqlite":
        return ""
    server: str = request.getfixturevalue("postgres_url")
    name = f"media{next(_databases)}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@pytest.fixture
def mesh_without_feed(tmp_path: Path, socket_dir: Path, database_url: str) -> Mesh:
    return Mesh(folder=tmp_path, sockets=socket_dir, database=database_url)


@pytest.fixture
async def mesh(mesh_without_feed: Mesh) -> AsyncIterator[Mesh]:
    async with mesh_without_feed.feeding():
        yield mesh_without_feed


@pytest.fixture
async def room(mesh: Mesh) -> AsyncIterator[Starter]:
    async with mesh.running() as starter:
        yield starter


@pytest.fixture
async def ada(room: Starter) -> Person:
    return await room.person()
