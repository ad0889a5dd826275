"""WatchRevocations: what a room hears, in which order, and who may listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from assistant.identity.v1 import identity_pb2
from assistant.identity.v1.identity_pb2_grpc import IdentityServiceStub
from assistant.operator.v1 import operator_pb2
from chassis.dial import streaming
from tests.interaction.context_svc.conftest import Room, Start, bearer
from tests.interaction.context_svc.refusal import refused

WATCH = identity_pb2.WatchRevocationsRequest(version="1", instance_id="i1")


class Frames:
    """Reads the feed with a bound on each wait."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def next(self) -> identity_pb2.WatchRevocationsResponse:
        async with asyncio.timeout(20):
            frame = await self._call.read()
        assert isinstance(frame, identity_pb2.WatchRevocationsResponse)
        return frame

    async def ended(self) -> bool:
        async with asyncio.timeout(20):
            return (await self._call.read()) is grpc.aio.EOF


@asynccontextmanager
async def listening(room: Room, name: str = "llm") -> AsyncIterator[Frames]:
    metadata = bearer(room.rooms[name].token("context"))
    async with streaming(room.identity.WatchRevocations(WATCH, metadata=metadata)) as call:
        yield Frames(call)


@pytest.mark.requirement("ID-3")
async def test_the_first_frame_has_the_keys_that_sign_tokens(room: Room) -> None:
    person = await room.register()
    async with listening(room) as frames:
        first = await frames.next()
    assert first.sequence == 1
    assert [key.purpose for key in first.state.signing_keys] == [
        identity_pb2.SIGNING_KEY_PURPOSE_ACCESS_TOKEN,
        identity_pb2.SIGNING_KEY_PURPOSE_API_TOKEN,
        identity_pb2.SIGNING_KEY_PURPOSE_GRANT,
    ]
    jwks = await room.identity.GetJwks(identity_pb2.GetJwksRequest())
    assert jwks.content_type == "application/jwk-set+json"
    assert jwks.data == (room.folder / "keys" / "users.jwks").read_bytes()
    assert first.state.signing_keys[0].jwk_json.encode().replace(b" ", b"") in jwks.data
    assert b'"d"' not in jwks.data
    assert first.state.signing_keys[2].key_id.encode() not in jwks.data
    assert person.answer.tokens.access_token


async def test_an_end_follows_at_once_and_is_in_the_next_rooms_first_frame(room: Room) -> None:
    person = await room.register()
    async with listening(room) as frames:
        assert not (await frames.next()).state.revoked_sign_ins
        await room.identity.Logout(identity_pb2.LogoutRequest(), metadata=person.metadata)
        change = await frames.next()
        while change.HasField("heartbeat"):
            change = await frames.next()
        (ended,) = change.change.revoked_sign_ins
        assert ended.account_id == person.answer.account.id
        async with listening(room, "media") as others:
            assert [each.sign_in_id for each in (await others.next()).state.revoked_sign_ins] == [
                ended.sign_in_id
            ]


async def test_the_feed_is_closed_with_a_last_frame_when_the_room_stops(start: Start) -> None:
    async with AsyncExitStack() as stack:
        running = start()
        room = await running.__aenter__()
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(room.address))
        call = IdentityServiceStub(channel).WatchRevocations(
            WATCH, metadata=bearer(room.rooms["llm"].token("context"))
        )
        frames = Frames(call)
        assert (await frames.next()).HasField("state")
        await running.__aexit__(None, None, None)
        last = await frames.next()
        assert last.closed.reason == identity_pb2.REVOCATION_FEED_CLOSED_REASON_DRAINING
        assert await Frames(call).ended()


@pytest.mark.requirement("SAFE-1")
async def test_only_the_named_rooms_may_listen(room: Room) -> None:
    person = await room.register()
    for metadata, expected in (
        ((), "TOKEN_MISSING"),
        (person.metadata, "TOKEN_INVALID"),
        (bearer(room.rooms["mallory"].token("context")), "CALLER_NOT_ALLOWED"),
        (bearer(room.rooms["llm"].token("media")), "TOKEN_INVALID"),
    ):
        call = room.identity.WatchRevocations(WATCH, metadata=metadata)
        assert await refused(call.read()) == expected
    room_token = bearer(room.rooms["llm"].token("context"))
    me = room.identity.GetCurrentUser(identity_pb2.GetCurrentUserRequest(), metadata=room_token)
    assert await refused(me) == "TOKEN_INVALID"


async def test_the_operator_sees_which_rooms_listen(room: Room) -> None:
    async with listening(room) as frames:
        await frames.next()
        status = await room.operator.GetStatus(operator_pb2.GetStatusRequest())
    assert [each.name for each in status.rooms] == ["context_svc", "llm_svc"]
    assert status.rooms[0].health == operator_pb2.ROOM_HEALTH_SERVING
    assert status.rooms[1].instance_id == "i1"
    assert not status.healthy
    assert status.setup_needed
