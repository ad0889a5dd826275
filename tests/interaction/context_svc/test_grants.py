"""Grants on the stream of a turn: there from its first frame, fresh for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from assistant.turn.v1 import turn_pb2
from chassis.auth import grant_verifier
from chassis.database import Database
from chassis.errors import TokenExpired, TokenInvalid
from chassis.keys import KeySet, to_jwk
from chassis.testing import FakeClock
from chassis.tokens import USER_TOKEN, Verifier
from context_svc.grants import Grants, Work
from context_svc.signing import AUDIENCE, ISSUER
from tests.interaction.context_svc.conversation_room import (
    ACCOUNT,
    PlayedOrchestrator,
    Stage,
    grant_keys,
    room,
)

pytestmark = pytest.mark.requirement("SAFE-1")


def keys() -> KeySet:
    signer = grant_keys().grant_signer
    return KeySet([to_jwk(signer.key_id, signer.public_key)])


async def test_a_turn_begins_with_a_grant_for_each_callee_and_gets_new_ones_in_time(
    database: Database,
) -> None:
    clock = FakeClock()
    given: list[turn_pb2.Grants] = []
    running = asyncio.Event()

    async def thinks_for_a_while(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        given.append(stage.start.grants)
        running.set()
        yield stage.started()
        while len(given) < 4:
            given.append(await asyncio.wait_for(stage.renewed.get(), 30))
        yield stage.finished("done")

    orchestrator = PlayedOrchestrator()
    orchestrator.play = thinks_for_a_while
    async with room(database, orchestrator, clock=clock) as here:
        session = await here.session()
        saying = asyncio.ensure_future(here.say(session, "hi"))
        await asyncio.wait_for(running.wait(), 30)
        for count in range(2, 5):
            seen = given[-1]
            await clock.awaited(30)
            await clock.advance(timedelta(seconds=29))
            verify(seen, clock)  # the one before still counts when the next one comes
            await clock.advance(timedelta(seconds=1))
            async with asyncio.timeout(20):
                while len(given) < count:  # noqa: ASYNC110 - the other end of a real socket
                    await asyncio.sleep(0.002)
        await saying
    for callee, tokens in {"llm": [g.llm for g in given], "media": [g.media for g in given]}.items():
        assert len(set(tokens)) == 4
        claims = grant_verifier(keys(), ISSUER, callee, FakeClock(clock.now_us())).verify(tokens[-1])
        assert (claims.subject, claims.all["turn"], claims.all["sid"]) == (
            ACCOUNT,
            orchestrator.starts[0].turn_id,
            session,
        )
        assert claims.expires - claims.issued == 60


def verify(grants: turn_pb2.Grants, clock: FakeClock) -> None:
    for callee, token in (("llm", grants.llm), ("media", grants.media)):
        grant_verifier(keys(), ISSUER, callee, clock).verify(token)


async def test_a_jobs_grant_is_for_one_room_one_minute_and_no_person_can_use_it() -> None:
    clock = FakeClock()
    ((name, token),) = Grants(grant_keys(), clock).for_job("ada", "job-1")
    assert name == "x-assistant-grant"
    claims = grant_verifier(keys(), ISSUER, "media", clock).verify(token)
    assert (claims.subject, claims.all[Work.JOB]) == ("ada", "job-1")
    with pytest.raises(TokenInvalid):
        grant_verifier(keys(), ISSUER, "llm", clock).verify(token)
    with pytest.raises(TokenInvalid):
        Verifier(grant_keys().trusted, ISSUER, AUDIENCE, USER_TOKEN, clock).verify(token)
    await clock.advance(timedelta(seconds=60))
    with pytest.raises(TokenExpired):
        grant_verifier(keys(), ISSUER, "media", clock).verify(token)
