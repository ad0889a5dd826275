"""API tokens: limited to scopes, listed without their secrets, ended everywhere."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest

from assistant.identity.v1 import identity_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import Person, Room, Start, bearer
from tests.interaction.context_svc.refusal import info, refused

ME = identity_pb2.GetCurrentUserRequest()
READ, CHAT = identity_pb2.TOKEN_SCOPE_READ, identity_pb2.TOKEN_SCOPE_CHAT


def wanted(
    *scopes: identity_pb2.TokenScope.ValueType, name: str = "script"
) -> identity_pb2.CreateApiTokenRequest:
    return identity_pb2.CreateApiTokenRequest(request_id=ids.uuid(), name=name, scopes=scopes)


async def made(
    room: Room, person: Person, *scopes: identity_pb2.TokenScope.ValueType
) -> identity_pb2.CreateApiTokenResponse:
    return await room.identity.CreateApiToken(wanted(*scopes), metadata=person.metadata)


@pytest.mark.requirement("ID-10")
async def test_a_token_does_what_its_scopes_allow_and_nothing_else(room: Room) -> None:
    person = await room.register()
    reader = bearer((await made(room, person, READ)).secret)
    writer = bearer((await made(room, person, READ, CHAT)).secret)
    me = await room.identity.GetCurrentUser(ME, metadata=reader)
    assert (me.account.id, list(me.scopes), me.HasField("device")) == (
        person.answer.account.id,
        [READ],
        False,
    )
    session = session_pb2.CreateSessionRequest(session_id=ids.uuid())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await room.sessions.CreateSession(session, metadata=reader)
    assert (info(caught.value).reason, info(caught.value).metadata["scope"]) == ("SCOPE_MISSING", "chat")
    assert (await room.sessions.CreateSession(session, metadata=writer)).session.id == session.session_id
    found = await room.sessions.ListSessions(session_pb2.ListSessionsRequest(), metadata=reader)
    assert [each.id for each in found.sessions] == [session.session_id]
    for call in (
        room.identity.CreateApiToken(wanted(READ), metadata=writer),
        room.identity.ListDevices(identity_pb2.ListDevicesRequest(), metadata=writer),
    ):
        assert await refused(call) == "CALLER_NOT_ALLOWED"


@pytest.mark.requirement("ID-10")
async def test_the_same_request_gets_the_same_token_until_it_was_used(room: Room) -> None:
    person = await room.register()
    request = wanted(READ)
    first = await room.identity.CreateApiToken(request, metadata=person.metadata)
    assert await room.identity.CreateApiToken(request, metadata=person.metadata) == first
    other = wanted(CHAT)
    other.request_id = request.request_id
    assert await refused(room.identity.CreateApiToken(other, metadata=person.metadata)) == (
        "IDEMPOTENCY_KEY_REUSED"
    )
    await room.identity.GetCurrentUser(ME, metadata=bearer(first.secret))

    async def used() -> bool:
        listed = await room.identity.ListApiTokens(
            identity_pb2.ListApiTokensRequest(), metadata=person.metadata
        )
        return listed.api_tokens[0].HasField("last_use_time")

    async with asyncio.timeout(20):
        while not await used():  # noting a used token follows the call
            pass
    assert await refused(room.identity.CreateApiToken(request, metadata=person.metadata)) == (
        "IDEMPOTENCY_KEY_REUSED"
    )


@pytest.mark.requirement("ID-10", "ID-5")
async def test_an_ended_token_is_refused_also_after_a_restart(start: Start) -> None:
    async with start() as room:
        person = await room.register()
        gone, kept = await made(room, person, READ), await made(room, person, READ)
        request = identity_pb2.RevokeApiTokenRequest(api_token_id=gone.api_token.id)
        await room.identity.RevokeApiToken(request, metadata=person.metadata)
        assert (
            await refused(room.identity.GetCurrentUser(ME, metadata=bearer(gone.secret))) == "TOKEN_REVOKED"
        )
        assert await refused(room.identity.RevokeApiToken(request, metadata=person.metadata)) == (
            "API_TOKEN_NOT_FOUND"
        )
        listed = await room.identity.ListApiTokens(
            identity_pb2.ListApiTokensRequest(), metadata=person.metadata
        )
        assert [each.id for each in listed.api_tokens] == [kept.api_token.id]
    async with start() as room:
        assert (
            await refused(room.identity.GetCurrentUser(ME, metadata=bearer(gone.secret))) == "TOKEN_REVOKED"
        )
        assert (await room.identity.GetCurrentUser(ME, metadata=bearer(kept.secret))).account.id


@pytest.mark.requirement("ID-10")
async def test_a_token_ends_by_itself_after_90_days_and_no_person_has_more_than_50(room: Room) -> None:
    person = await room.register()
    token = await made(room, person, READ)
    for _ in range(49):
        await made(room, person, READ)
    assert await refused(made(room, person, READ)) == "QUOTA_EXCEEDED"
    await room.clock.advance(timedelta(days=89))
    assert (await room.identity.GetCurrentUser(ME, metadata=bearer(token.secret))).account.id
    await room.clock.advance(timedelta(days=1, seconds=1))
    assert await refused(room.identity.GetCurrentUser(ME, metadata=bearer(token.secret))) == "TOKEN_EXPIRED"
