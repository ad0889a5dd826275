"""A change of keys, through the running rooms: dated so that the overlap ends while one looks."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assistant.generation.v1 import generation_pb2, generation_pb2_grpc
from assistant.identity.v1 import identity_pb2
from assistant.media.v1 import media_pb2, media_pb2_grpc
from chassis import ids
from chassis.clock import SystemClock
from chassis.keys import load_or_create_key
from chassis.tokens import Signer
from context_svc.signing import AUDIENCE, ISSUER
from tests.interaction.trust.rooms import Mesh, bearer, reason, running

pytestmark = [pytest.mark.requirement("ID-3"), pytest.mark.slow]

OPEN = {"context": "", "llm": "", "media": ""}
REFUSED = dict.fromkeys(OPEN, "TOKEN_INVALID")


async def entered(mesh: Mesh, token: str) -> dict[str, str]:
    """What each room that people call says to a token; empty: come in."""
    models: Any = generation_pb2_grpc.GenerationServiceStub(mesh.channels["llm"])
    files: Any = media_pb2_grpc.MediaServiceStub(mesh.channels["media"])
    calls = {
        "context": mesh.accounts.GetCurrentUser(identity_pb2.GetCurrentUserRequest(), metadata=bearer(token)),
        "llm": models.ListModels(generation_pb2.ListModelsRequest(), metadata=bearer(token)),
        "media": files.ListMedia(media_pb2.ListMediaRequest(), metadata=bearer(token)),
    }
    return {room: await reason(call) for room, call in calls.items()}


def key_of(token: str) -> str:
    header = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


async def test_both_keys_open_every_room_until_the_overlap_ends_and_then_only_the_new_one(
    tmp_path: Path, socket_dir: Path
) -> None:
    now_us, day = SystemClock().now_us(), timedelta(days=1)
    users = tmp_path / "keys/users"
    users.mkdir(parents=True, mode=0o700)
    ages = {"old": timedelta(days=91), "new": day - timedelta(seconds=3)}
    made = {name: ids.uuid(now_us - age // timedelta(microseconds=1)) for name, age in ages.items()}
    private = {name: load_or_create_key(users / f"{key_id}.key") for name, key_id in made.items()}
    async with running(tmp_path, socket_dir) as mesh:
        anna = await mesh.register()
        assert key_of(anna.tokens.access_token) == made["new"]
        now = now_us // 1_000_000
        claims = {"sub": anna.account, "sid": ids.uuid(), "aud": AUDIENCE, "iat": now, "exp": now + 600}
        old = Signer(private["old"], made["old"], ISSUER).sign(claims)
        assert await entered(mesh, old) == OPEN
        assert await entered(mesh, anna.tokens.access_token) == OPEN
        async with asyncio.timeout(20):
            while await entered(mesh, old) != REFUSED:  # noqa: ASYNC110 - it comes by the clock
                await asyncio.sleep(0.1)
        assert await entered(mesh, anna.tokens.access_token) == OPEN
        published = json.loads((mesh.keys / "users.jwks").read_bytes())["keys"]
        assert made["old"] not in {key["kid"] for key in published}
        assert not (users / f"{made['old']}.key").exists()
