"""`mesh user` and `mesh account` against a real context_svc: its operator's socket and its public one."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from rich.console import Console

from assistant.identity.v1 import identity_pb2
from mesh import account, record, users
from mesh.credentials import Wallet
from mesh.errors import UserUnknown
from mesh.places import Places
from mesh.rooms import operator_socket
from tests.interaction.context_svc.conftest import Room, Start, registration, start
from tests.interaction.context_svc.refusal import refused

__all__ = ["start"]


@pytest.fixture
async def room(start: Start, where: Places, unused_tcp_port: int) -> AsyncIterator[Room]:
    """A mesh whose public door is context_svc itself."""
    operator = f"unix:{operator_socket(where)}"
    async with start(operator_listen=operator) as running, forwarded(unused_tcp_port, running.address):
        with record.owned(where):
            told = record.Record(
                pid=1, run=str(where.run), bind="127.0.0.1", port=unused_tcp_port, model="none", rooms={}
            )
            record.write(where, told)
            yield running


@asynccontextmanager
async def forwarded(port: int, address: str) -> AsyncIterator[None]:
    """A TCP port before a unix socket: rooms themselves serve on no port without certificates."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(join, "127.0.0.1", port):
        yield


async def said(command: Callable[[Console], Awaitable[int]]) -> str:
    out = io.StringIO()
    assert await command(Console(file=out, width=200)) == 0
    return out.getvalue()


async def test_the_owner_invites_lists_resets_and_signs_out(room: Room, where: Places) -> None:
    await said(lambda out: account.show(where, out))  # the terminal makes the first account
    code = (await said(lambda out: users.invite(where, "", out))).split()[2]
    request = registration(email="ben@example.org", invite_code=code)
    assert (await room.identity.Register(request)).account.id
    listed = await said(lambda out: users.users(where, out))
    assert "owner@mesh.local" in listed
    assert "ben@example.org" in listed
    password = (
        (await said(lambda out: users.reset(where, "Ben@example.org", out))).splitlines()[0].split()[-1]
    )
    login = identity_pb2.LoginRequest(email="ben@example.org", password=password, device=request.device)
    assert (await room.identity.Login(login)).account.id
    assert "1 devices" in await said(lambda out: users.sign_out(where, "ben@example.org", True, out))
    assert await refused(room.identity.Login(login)) == "CREDENTIALS_WRONG"
    with pytest.raises(UserUnknown):
        await users.reset(where, "nobody@example.org", Console(file=io.StringIO()))


@pytest.mark.requirement("ID-6")
async def test_a_person_sees_and_ends_their_devices_and_changes_the_password(
    room: Room, where: Places
) -> None:
    assert "owner@mesh.local" in await said(lambda out: account.show(where, out))
    wallet = Wallet(where.client / "credentials.json")
    stored = wallet.load()
    assert stored is not None
    phone = registration().device
    login = identity_pb2.LoginRequest(email=stored.email, password=stored.password, device=phone)
    await room.identity.Login(login)
    listed = await said(lambda out: account.devices(where, out))
    assert phone.device_id in listed
    assert "this one" in listed
    await said(lambda out: account.revoke(where, phone.device_id, out))
    assert phone.device_id not in await said(lambda out: account.devices(where, out))

    async def typed(with_current: bool) -> tuple[str, str]:
        assert not with_current  # this terminal made the account and knows its password
        return "", "another long sentence"

    await said(lambda out: account.password(where, out, typed))
    kept = wallet.load()
    assert kept is not None
    assert kept.password == "another long sentence"
    assert "owner@mesh.local" in await said(lambda out: account.show(where, out))
