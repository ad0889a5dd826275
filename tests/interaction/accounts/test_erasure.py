"""An account that is deleted: nothing signs in, nothing runs, and after the job nothing of it is left anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import grpc
import pytest
from google.protobuf.struct_pb2 import Value

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2
from assistant.identity.v1 import identity_pb2
from assistant.operator.v1 import operator_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.dial import streaming
from chassis.status import from_rpc_error
from tests import holding
from tests.interaction.accounts.house import House, Mesh, Person
from tests.interaction.context_svc.conversation_room import Stage

CANARY = "canary-7d41"


async def reason(call: object) -> str:
    """Why a call failed. Fails itself when it did not."""
    try:
        await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason or ""
    raise AssertionError("the call did not fail")


async def settled(mesh: Mesh) -> None:
    """Return when no account is being deleted any more."""
    await until(partial(_none_is_deleted, mesh))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the condition holds; at most 20 s."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - it announces itself by no event
            await asyncio.sleep(0.02)


async def _none_is_deleted(mesh: Mesh) -> bool:
    users = (await mesh.operator.ListUsers(operator_pb2.ListUsersRequest())).users
    return all(each.state != operator_pb2.ACCOUNT_STATE_DELETING for each in users)


async def plant(person: Person) -> None:
    """Put canaries wherever a person can put something."""
    session = await person.session(f"{CANARY}-title")
    for n in range(3):
        await person.say(session, f"{CANARY}-words {n} " * 50)
    await person.upload(f"{CANARY}-bytes ".encode() * 50, f"{CANARY}-name.txt")
    for scope in ("", session):
        write = context_pb2.ContextItemWrite(key="note", value=Value(string_value=f"{CANARY}-item"))
        await person.context.UpdateContext(
            context_pb2.UpdateContextRequest(request_id=ids.uuid(), session_id=scope, items=[write])
        )
    token = identity_pb2.CreateApiTokenRequest(
        request_id=ids.uuid(), name=f"{CANARY}-token", scopes=[identity_pb2.TOKEN_SCOPE_READ]
    )
    await person.identity.CreateApiToken(token)


async def found(house: House) -> list[str]:
    """Where a canary lies: files of the mesh by name or content, and rows of a database server."""
    places = holding.files(house.folder, CANARY)
    return places + (await holding.rows(house.database, CANARY) if house.database else [])


@pytest.mark.requirement("ID-8")
@pytest.mark.requirement("SAFE-2")
async def test_canaries_of_a_deleted_account_are_nowhere(
    house: House, mesh: Mesh, capfd: pytest.CaptureFixture[str]
) -> None:
    person = await mesh.register(f"{CANARY}@example.org", f"{CANARY}-anna", f"{CANARY}-phone")
    other = await mesh.register("bob@example.org", "Bob")
    session = await other.session("kept")
    await other.say(session, "hello")
    await plant(person)
    assert len(await found(house)) >= (2 if not house.database else 8)
    await person.delete()
    await settled(mesh)
    assert await found(house) == []
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err
    users = (await mesh.operator.ListUsers(operator_pb2.ListUsersRequest())).users
    assert [each.account_id for each in users] == [other.account]
    messages = await other.chat.ListMessages(chat_pb2.ListMessagesRequest(session_id=session))
    assert len(messages.messages) == 2
    assert (await mesh.register(person.email)).account != person.account


@pytest.mark.requirement("ID-5")
async def test_nothing_of_a_deleted_account_signs_in_or_stays_open(house: House, mesh: Mesh) -> None:
    person = await mesh.register("anna@example.org")
    await person.upload(b"some words", "a.txt")
    stopped = asyncio.Event()

    async def hangs(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        await stage.cancelled.wait()
        stopped.set()
        yield stage.stopped("late")

    house.orchestrator.play = hangs
    session = await person.session("talk")
    saying = asyncio.create_task(person.say(session, "hello"))
    follow = chat_pb2.SubscribeEventsRequest(cursors=[session_pb2.SessionCursor(session_id=session)])
    async with streaming(person.chat.SubscribeEvents(follow, timeout=20)) as events:
        frames = aiter(events)
        while not (await anext(frames)).event.HasField("turn_started"):
            pass
        assert await reason(person.delete("not the password at all")) == "CREDENTIALS_WRONG"
        await person.delete()
        last = [frame async for frame in frames][-1]
    assert last.closed.reason in (chat_pb2.CLOSE_REASON_REVOKED, chat_pb2.CLOSE_REASON_DELETED)
    await asyncio.wait_for(stopped.wait(), 30)
    await asyncio.gather(saying, return_exceptions=True)
    assert await reason(person.sessions.ListSessions(session_pb2.ListSessionsRequest())) == "TOKEN_REVOKED"
    assert await reason(person.delete()) == "TOKEN_REVOKED"
    await eventually_refused(person)
    login = identity_pb2.LoginRequest(
        email=person.email,
        password="a long enough sentence",
        device=identity_pb2.DeviceInfo(
            device_id=ids.uuid(), name="x", platform=identity_pb2.DEVICE_PLATFORM_WEB, app_version="1"
        ),
    )
    assert await reason(person.identity.Login(login)) == "CREDENTIALS_WRONG"


async def eventually_refused(person: Person) -> None:
    """media_svc hears of it within a second."""

    async def refused() -> bool:
        try:
            await person.upload(b"some other words", "b.txt")
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason == "TOKEN_REVOKED"
        return False

    await until(refused)


@pytest.mark.requirement("ID-8")
async def test_an_erasure_goes_on_after_a_kill_and_waits_for_media(house: House) -> None:
    async with house.context() as mesh:
        async with house.media():
            person = await mesh.register(f"{CANARY}@example.org")
            await plant(person)
        await person.delete()
    async with house.context() as mesh:
        await until(partial(_only_media_is_left, house))
        await eventually_listed(mesh, operator_pb2.ACCOUNT_STATE_DELETING)
        assert await reason(
            person_again(mesh, person).sessions.ListSessions(session_pb2.ListSessionsRequest())
        ) == ("TOKEN_REVOKED")
        async with house.media():
            await settled(mesh)
            assert await found(house) == []


async def _only_media_is_left(house: House) -> bool:
    return all(each.startswith(("media", "upload")) for each in await found(house))


def person_again(mesh: Mesh, person: Person) -> Person:
    return Person(account=person.account, email=person.email, metadata=person.metadata, mesh=mesh)


async def eventually_listed(mesh: Mesh, state: operator_pb2.AccountState.ValueType) -> None:
    users = (await mesh.operator.ListUsers(operator_pb2.ListUsersRequest())).users
    assert [each.state for each in users] == [state]


@pytest.mark.requirement("ID-8")
async def test_the_operator_deletes_an_account_named_twice(mesh: Mesh) -> None:
    person = await mesh.register("anna@example.org")
    request = operator_pb2.DeleteUserRequest(
        request_id=ids.uuid(), account_id=person.account, confirm_email="bob@example.org"
    )
    assert await reason(mesh.operator.DeleteUser(request)) == "INVALID_FIELD"
    request.confirm_email = "Anna@Example.org"
    deadline = (await mesh.operator.DeleteUser(request)).erase_deadline
    revoke = operator_pb2.RevokeUserRequest(request_id=ids.uuid(), account_id=person.account)
    assert await reason(mesh.operator.RevokeUser(revoke)) == "ACCOUNT_NOT_FOUND"
    await settled(mesh)
    assert (await mesh.operator.DeleteUser(request)).erase_deadline == deadline
    request.request_id = ids.uuid()
    assert await reason(mesh.operator.DeleteUser(request)) == "ACCOUNT_NOT_FOUND"
