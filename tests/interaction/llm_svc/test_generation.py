"""GenerationService over real gRPC with the scripted model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2 as pb
from assistant.message.v1 import message_pb2
from chassis.status import reason_of
from tests.interaction.llm_svc.room import frames, results, room, start, text

pytestmark = [pytest.mark.requirement("LLM-9"), pytest.mark.timeout(20)]


async def test_a_turn_of_two_steps_runs_on_one_stream(tmp_path: Path) -> None:
    async with room(tmp_path) as stub:
        call = stub.Generate()
        await call.write(start("What is 17*23? Use the calculator."))
        received: list[pb.GenerateResponse] = []
        async for frame in call:
            received.append(frame)
            if frame.HasField("step_finished") and len(received) < 4:
                await call.write(results(received[1].tool_call, "391"))
                await call.done_writing()
    kinds = [frame.WhichOneof("frame") for frame in received]
    assert kinds[:3] == ["started", "tool_call", "step_finished"]
    assert received[1].tool_call.arguments_json == '{"expression":"17*23"}'
    assert text(received) == "The answer is 391."
    assert received[-1].step_finished.finish_reason == message_pb2.FINISH_REASON_STOP
    assert received[-1].step_finished.usage.output_tokens > 0


@pytest.mark.requirement("LLM-2")
async def test_an_unknown_model_is_refused_and_no_other_answers(tmp_path: Path) -> None:
    async with room(tmp_path) as stub:
        call = stub.Generate()
        await call.write(start("hi", model="gpt-unknown"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await frames(call)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "UNKNOWN_MODEL"


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize(
    ("reason", "retryable"),
    [
        ("PROVIDER_FAILED", True),
        ("PROVIDER_REFUSED", False),
        ("ENGINE_BUSY", True),
        ("PROVIDER_LIMITED", True),
    ],
)
async def test_a_failure_comes_in_band_with_its_reason(tmp_path: Path, reason: str, retryable: bool) -> None:
    async with room(tmp_path) as stub:
        call = stub.Generate()
        await call.write(start(f"fail with {reason} after 2 tokens"))
        received = await frames(call)
        assert await call.code() is grpc.StatusCode.OK
    failed = received[-1].step_failed
    assert text(received) == "word word "
    assert failed.reason == error_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
    assert failed.retryable == retryable
    assert failed.usage.estimated


async def test_cancel_ends_the_stream_with_what_was_used(tmp_path: Path) -> None:
    async with room(tmp_path) as stub:
        call = stub.Generate()
        await call.write(start("stream 100000 tokens 5 ms apart"))
        received: list[pb.GenerateResponse] = []
        async for frame in call:
            received.append(frame)
            if len(received) == 4:
                await call.write(pb.GenerateRequest(cancel=pb.CancelGeneration()))
    finished = received[-1].step_finished
    assert finished.finish_reason == message_pb2.FINISH_REASON_UNSPECIFIED
    assert finished.usage.estimated
    assert len(received) < 1_000


async def test_a_stream_without_start_is_refused(tmp_path: Path) -> None:
    async with room(tmp_path) as stub:
        call = stub.Generate()
        await call.write(pb.GenerateRequest(cancel=pb.CancelGeneration()))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await frames(call)
    assert reason_of(refused.value) == "FRAME_UNEXPECTED"


async def test_many_runs_at_once_get_their_own_answers(tmp_path: Path) -> None:
    async def ask(number: int) -> str:
        call = stub.Generate()
        await call.write(start(f"I am number {number}"))
        await call.done_writing()
        return text(await frames(call))

    async with room(tmp_path) as stub:
        answers = await asyncio.gather(*map(ask, range(50)))
    assert answers == [f"You said: I am number {number}" for number in range(50)]


@pytest.mark.requirement("LLM-2")
async def test_models_are_listed_the_default_first_and_read_by_name(tmp_path: Path) -> None:
    remote = {"openai_base_url": "http://nowhere.invalid/v1/", "openai_models": "b-model, a-model"}
    async with room(tmp_path, **remote, default_model="b-model") as stub:
        listed = await stub.ListModels(pb.ListModelsRequest())
        first = await stub.ListModels(pb.ListModelsRequest(page_size=2))
        second = await stub.ListModels(pb.ListModelsRequest(page_size=2, page_token=first.next_page_token))
        one = await stub.GetModel(pb.GetModelRequest(model="scripted"))
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.GetModel(pb.GetModelRequest(model="other"))
    assert [model.name for model in listed.models] == ["b-model", "a-model", "scripted"]
    assert [model.default for model in listed.models] == [True, False, False]
    assert [model.name for page in (first, second) for model in page.models] == [
        "b-model",
        "a-model",
        "scripted",
    ]
    assert one.model.local
    assert one.model.state == pb.MODEL_STATE_READY
    assert reason_of(unknown.value) == "UNKNOWN_MODEL"


async def test_the_scripted_model_is_off_unless_a_setting_turns_it_on(tmp_path: Path) -> None:
    async with room(tmp_path, script="") as stub:
        assert list((await stub.ListModels(pb.ListModelsRequest())).models) == []


async def test_tokens_are_counted_and_an_estimate_says_so(tmp_path: Path) -> None:
    window = start("hello there").start.window
    async with room(tmp_path) as stub:
        counted = await stub.CountTokens(pb.CountTokensRequest(window=window))
    assert counted.estimated
    assert counted.tokens > 3


async def test_a_missing_script_stops_the_room_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.toml"):
        async with room(tmp_path, script=str(tmp_path / "absent.toml")):
            pass
