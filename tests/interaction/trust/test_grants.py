"""Acting for a person, through the running rooms: what a room's key alone does not open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assistant.generation.v1 import generation_pb2, generation_pb2_grpc
from assistant.identity.v1 import identity_pb2
from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.turn.v1 import turn_pb2, turn_pb2_grpc
from chassis.auth import GRANT
from chassis.dial import streaming
from chassis.status import from_rpc_error
from chassis.tokens import GRANT_TOKEN, Signer
from context_svc.grants import Grants, Work
from context_svc.signing import ISSUER
from tests.crossed import CROSSED
from tests.interaction.trust.rooms import Mesh, reason

pytestmark = pytest.mark.requirement("SAFE-1")

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Thief:
    """Whoever holds orchestrator_svc's key, and what they can get of context_svc's signature."""

    mesh: Mesh

    def grant(
        self, account: str, turn: str = "t1", *, callee: str = "llm", work: Work = Work.TURN
    ) -> Metadata:
        grants = Grants(self.mesh.signing(), self.mesh.clock)
        return ((GRANT, grants.issue(account=account, work=work, id=turn, callee=callee)),)

    async def generate(
        self, grant: Metadata = (), *, room: str = "orchestrator", turn: str = "t1", **start: Any
    ) -> str:
        """Open a run at llm_svc: the reason of its refusal, or what the model said."""
        stub: Any = generation_pb2_grpc.GenerationServiceStub(self.mesh.channels["llm"])
        metadata = (*self.mesh.as_room(room, "llm"), *grant)
        said = message_pb2.ROLE_USER
        window = generation_pb2.Window(
            messages=[
                generation_pb2.WindowMessage(role=said, parts=[generation_pb2.WindowPart(text="hello")])
            ]
        )
        opening = generation_pb2.StartGeneration(window=window, turn_id=turn, **start)
        while True:
            async with streaming(stub.Generate(metadata=metadata, timeout=30)) as call:
                try:  # a refusal may come before the write
                    await call.write(generation_pb2.GenerateRequest(start=opening))
                    return "".join([frame.text async for frame in call])
                except grpc.aio.AioRpcError as error:
                    if error.details() != CROSSED:
                        return from_rpc_error(error).reason or error.code().name

    async def read(self, media_id: str, grant: Metadata = (), *, room: str = "orchestrator") -> str:
        """Read about a file at media_svc: the reason of the refusal, or nothing."""
        stub: Any = media_pb2_grpc.MediaServiceStub(self.mesh.channels["media"])
        metadata = (*self.mesh.as_room(room, "media"), *grant)
        return await reason(stub.GetMedia(media_pb2.GetMediaRequest(media_id=media_id), metadata=metadata))


@pytest.fixture
def thief(mesh: Mesh) -> Thief:
    return Thief(mesh=mesh)


async def test_a_turn_goes_through_all_rooms_under_its_grants(mesh: Mesh) -> None:
    anna = await mesh.register()
    events = await mesh.say(anna, await mesh.session(anna), "hello")
    assert events[-1].WhichOneof("event") == "turn_finished"


async def test_no_room_lets_a_model_run_for_a_person_without_their_turns_grant(thief: Thief) -> None:
    good = thief.grant("anna")
    assert "INVALID" not in await thief.generate(good)
    signer = Signer(Ed25519PrivateKey.generate(), thief.mesh.signing().grant_signer.key_id, ISSUER)
    now = thief.mesh.clock.now_us() // 1_000_000
    own = signer.sign(
        {"sub": "anna", "turn": "t1", "aud": "llm", "iat": now, "exp": now + 60}, typ=GRANT_TOKEN
    )
    refused: dict[str, Callable[[], Any]] = {
        "without one": lambda: thief.generate(),
        "for media_svc": lambda: thief.generate(thief.grant("anna", callee="media")),
        "of a job": lambda: thief.generate(thief.grant("anna", work=Work.JOB)),
        "of another turn": lambda: thief.generate(thief.grant("anna", "t2")),
        "for another person": lambda: thief.generate(good, cache_account_id="bob"),
        "for a session it does not name": lambda: thief.generate(good, prefix_key="s1"),
        "signed by the room": lambda: thief.generate(((GRANT, own),)),
        "twice": lambda: thief.generate((*good, *good)),
        "by media_svc, for a person": lambda: thief.generate(good, room="media", cache_account_id="anna"),
    }
    assert {why: await call() for why, call in refused.items()} == dict.fromkeys(refused, "GRANT_INVALID")


async def test_a_room_reads_the_files_of_the_granted_person_and_of_nobody_else(
    mesh: Mesh, thief: Thief
) -> None:
    anna, bob = await mesh.register(), await mesh.register("bob@example.org")
    media_id = await mesh.upload(anna, b"only for Anna")
    for_anna = thief.grant(anna.account, callee="media")
    assert await thief.read(media_id, for_anna) == ""
    assert await thief.read(media_id, thief.grant(bob.account, callee="media")) == "MEDIA_NOT_FOUND"
    assert await thief.read(media_id) == "GRANT_INVALID"
    assert await thief.read(media_id, thief.grant(anna.account)) == "GRANT_INVALID"
    assert await thief.read(media_id, for_anna, room="llm") == "CALLER_NOT_ALLOWED"


async def test_no_internal_call_takes_a_persons_token(mesh: Mesh) -> None:
    anna = await mesh.register()
    turns: Any = turn_pb2_grpc.TurnServiceStub(mesh.channels["orchestrator"])
    models: Any = generation_pb2_grpc.GenerationServiceStub(mesh.channels["llm"])
    calls = {
        "RunTurn": turns.RunTurn(iter(()), metadata=anna.metadata).read(),
        "ListActions": turns.ListActions(turn_pb2.ListActionsRequest(), metadata=anna.metadata),
        "Generate": models.Generate(iter(()), metadata=anna.metadata).read(),
        "CountTokens": models.CountTokens(generation_pb2.CountTokensRequest(), metadata=anna.metadata),
        "WatchRevocations": mesh.accounts.WatchRevocations(
            identity_pb2.WatchRevocationsRequest(instance_id="i"), metadata=anna.metadata
        ).read(),
    }
    assert {name: await reason(call) for name, call in calls.items()} == dict.fromkeys(calls, "TOKEN_INVALID")
