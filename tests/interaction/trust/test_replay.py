"""A refresh token in two hands, as every room sees it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from assistant.identity.v1 import identity_pb2
from chassis.status import reason_of
from tests.interaction.trust.rooms import Mesh
from tests.interaction.trust.test_rotation import OPEN, entered

pytestmark = pytest.mark.requirement("ID-4")

WITHIN = 1.0  # seconds: the promise


async def test_a_replay_ends_the_family_in_every_room_within_a_second(mesh: Mesh) -> None:
    anna = await mesh.register()
    request = identity_pb2.RefreshTokenRequest(
        refresh_token=anna.tokens.refresh_token, device_id=anna.device_id
    )
    child = (await mesh.accounts.RefreshToken(request)).tokens
    again = (await mesh.accounts.RefreshToken(request)).tokens
    assert again.refresh_token == child.refresh_token  # a lost answer, asked for again
    assert await entered(mesh, child.access_token) == OPEN
    await asyncio.sleep(0)
    async with asyncio.timeout(20):  # the use is noted behind the call's back
        while (said := await refresh(mesh, request)) == "":
            pass
    assert said == "REFRESH_TOKEN_REPLAYED"
    revoked = dict.fromkeys(OPEN, "TOKEN_REVOKED")
    async with asyncio.timeout(WITHIN):
        while await entered(mesh, child.access_token) != revoked:
            pass
    assert set((await entered(mesh, anna.tokens.access_token)).values()) == {"TOKEN_REVOKED"}
    child_request = identity_pb2.RefreshTokenRequest(
        refresh_token=child.refresh_token, device_id=anna.device_id
    )
    assert await refresh(mesh, child_request) == "REFRESH_TOKEN_INVALID"


async def refresh(mesh: Mesh, request: identity_pb2.RefreshTokenRequest) -> str:
    try:
        await mesh.accounts.RefreshToken(request)
    except grpc.aio.AioRpcError as error:
        return reason_of(error) or ""
    return ""
