"""`mesh account export | import | delete` and `mesh user delete` against a real context_svc and media_svc."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from rich.console import Console

from assistant.operator.v1 import operator_pb2
from mesh import account, record, users
from mesh.credentials import Wallet
from mesh.errors import ArchiveUnusable, CallFailed
from mesh.places import Places, places
from mesh.rooms import operator_socket
from tests.interaction.accounts.house import House, Mesh
from tests.interaction.accounts.test_erasure import settled


@pytest.fixture
def where(tmp_path: Path, socket_dir: Path) -> Places:
    made = places(tmp_path / "d", runtime=socket_dir)
    made.make()
    return made


@pytest.fixture
async def mesh(house: House, where: Places) -> AsyncIterator[Mesh]:
    """A mesh whose public door leads to context_svc itself."""
    async with (
        house.context(operator_listen=f"unix:{operator_socket(where)}") as running,
        house.media(),
        door(house.address("context").removeprefix("unix:")) as port,
    ):
        with record.owned(where):
            told = record.Record(
                pid=1, run=str(where.run), bind="127.0.0.1", port=port, model="none", rooms={}
            )
            record.write(where, told)
            yield running


@asynccontextmanager
async def door(socket: str) -> AsyncIterator[int]:
    """A port of this machine whose bytes go to a room's socket and back."""

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room_reader, room_writer = await asyncio.open_unix_connection(socket)
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(reader, room_writer))
            both.create_task(_pump(room_reader, writer))

    server = await asyncio.start_server(passed_on, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def said(command: Callable[[Console], Awaitable[int]]) -> str:
    out = io.StringIO()
    assert await command(Console(file=out, width=200)) == 0
    return out.getvalue()


@pytest.mark.requirement("ID-7")
async def test_a_person_takes_their_account_along_and_brings_it_back(
    mesh: Mesh, where: Places, tmp_path: Path
) -> None:
    archive = tmp_path / "mine.zip"
    await said(lambda out: account.show(where, out))  # the terminal makes the first account
    assert str(archive) in await said(lambda out: account.export(where, archive, out))
    assert archive.stat().st_mode & 0o777 == 0o600
    assert "sessions.jsonl" in zipfile.ZipFile(archive).namelist()
    with pytest.raises(CallFailed):  # one an hour
        await account.export(where, tmp_path / "again.zip", Console(file=io.StringIO()))
    assert not (tmp_path / "again.zip").exists()
    assert not (tmp_path / "again.zip.part").exists()
    told = await said(lambda out: account.import_(where, archive, out, mesh.clock))
    assert "nothing" in told
    wrong = tmp_path / "wrong.zip"
    wrong.write_bytes(b"no archive")
    with pytest.raises(ArchiveUnusable):
        await account.import_(where, wrong, Console(file=io.StringIO()), mesh.clock)


@pytest.mark.requirement("ID-8")
async def test_a_person_and_the_owner_delete_accounts(house: House, mesh: Mesh, where: Places) -> None:
    await said(lambda out: account.show(where, out))
    wallet = Wallet(where.client / "credentials.json")
    stored = wallet.load()
    assert stored is not None

    async def wrong(email: str) -> str:
        return "not the password at all"

    async def right(email: str) -> str:
        return stored.password

    with pytest.raises(CallFailed):
        await account.delete(where, Console(file=io.StringIO()), wrong)
    assert wallet.load() is not None
    assert "is deleted" in await said(lambda out: account.delete(where, out, right))
    assert wallet.load() is None
    await settled(mesh)
    await said(lambda out: account.show(where, out))  # with the set-up code again
    with pytest.raises(CallFailed):
        await users.delete(where, "owner@mesh.local", "ben@example.org", Console(file=io.StringIO()))
    assert "is deleted" in await said(
        lambda out: users.delete(where, "owner@mesh.local", "owner@mesh.local", out)
    )
    await settled(mesh)
    assert not (await mesh.operator.ListUsers(operator_pb2.ListUsersRequest())).users
