"""The stream of model steps, when its other side has ended it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from assistant.generation.v1 import generation_pb2_grpc as rpc
from chassis.dial import streaming
from chassis.testing import SOON, serve_for_test
from orchestrator_svc.errors import PeerFailed, Reason
from orchestrator_svc.peers import LlmSteps
from tests.interaction.orchestrator_svc.scripted_llm import POLICIES, ScriptedLlm, Vanish


@pytest.mark.requirement("CHAT-8")
async def test_a_word_to_a_stream_that_has_ended_is_a_failure_of_the_peer() -> None:
    llm = ScriptedLlm(steps=[[Vanish()]])
    async with serve_for_test(llm.register, policies=POLICIES) as channel:
        stub = rpc.GenerationServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        async with streaming(stub.Generate()) as call, asyncio.timeout(SOON.total_seconds()):
            steps = LlmSteps(call)
            await steps.stop()
            assert await call.code() is grpc.StatusCode.OK
            with pytest.raises(PeerFailed) as failed:
                await steps.stop()
    assert failed.value.reason is Reason.PEER_UNAVAILABLE
