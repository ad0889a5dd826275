"""The room with remote providers, over real gRPC: fallback, kept answers, batches, and keys that stay unseen."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2 as pb
from assistant.message.v1 import message_pb2
from chassis import telemetry
from chassis.status import from_rpc_error, reason_of
from llm_svc.breaker import FAILURES
from llm_svc.errors import RosterInvalid
from llm_svc.providers import script
from tests.contracts.anthropic_server import AnthropicServer
from tests.contracts.chat_server import ChatServer, Fault
from tests.contracts.cohere_server import CohereServer
from tests.interaction.llm_svc.room import frames, room, start, text

pytestmark = [pytest.mark.requirement("LLM-1"), pytest.mark.timeout(30)]
SCRIPT = script.load(script.DEFAULT_SCRIPT)
CANARY = "sk-canary-0123456789"


def remote(text: str, **more: object) -> pb.GenerateRequest:
    """A first frame for a remote model, which nobody chose by name."""
    asked = start(text, model="claude-sonnet-5-5")
    asked.start.MergeFrom(pb.StartGeneration(**more))  # type: ignore[arg-type]
    return asked


async def ask(stub: object, asked: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    call = stub.Generate()  # type: ignore[attr-defined]
    await call.write(asked)
    await call.done_writing()
    return await frames(call)


@pytest.mark.parametrize(
    ("fake", "setting", "model"),
    [
        (AnthropicServer, "anthropic", "claude-sonnet-5-5"),
        (CohereServer, "cohere", "command-a-03-2025"),
        (ChatServer, "openai", "any"),
    ],
)
async def test_a_turn_with_a_tool_runs_at_each_provider(
    tmp_path: Path, fake: type[ChatServer], setting: str, model: str
) -> None:
    server = fake(SCRIPT)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server.on_a_port())
        given = {f"{setting}_base_url": f"{url}/v1", f"{setting}_key": CANARY, f"{setting}_models": model}
        stub = await stack.enter_async_context(room(tmp_path, script="", **given))
        call = stub.Generate()
        await call.write(start("What is 17*23? Use the calculator.", model=model))
        received: list[pb.GenerateResponse] = []
        async for frame in call:
            received.append(frame)
            if frame.HasField("tool_call"):
                asked = frame.tool_call
            if frame.HasField("step_finished") and not text(received):
                result = message_pb2.ToolResultPart(call_id=asked.call_id, action=asked.action, content="391")
                await call.write(pb.GenerateRequest(tool_results=pb.ToolResults(results=[result])))
    assert asked.arguments_json == '{"expression":"17*23"}'
    assert text(received) == "The answer is 391."
    assert received[0].started.provider == setting
    assert (received[-1].step_finished.usage.cost_micro_usd > 0) == (setting != "openai")
    assert len(server.asked) == 2


@pytest.mark.requirement("LLM-4")
async def test_a_configured_model_takes_the_place_of_one_that_fails_and_the_start_says_so(
    tmp_path: Path,
) -> None:
    broken = AnthropicServer(SCRIPT)
    broken.fault = Fault(status=401)
    async with (
        broken.on_a_port() as url,
        room(tmp_path, anthropic_base_url=url, fallback_models="scripted") as stub,
    ):
        received = await ask(stub, remote("hi"))
        chosen = await ask(stub, remote("hi", explicit_model=True))
    started = received[0].started
    assert (started.model, started.provider, started.fallback_from) == (
        "scripted",
        "scripted",
        "claude-sonnet-5-5",
    )
    assert text(received) == "You said: hi"
    assert chosen[-1].step_failed.reason == error_pb2.ERROR_REASON_PROVIDER_REFUSED
    assert chosen[0].started.fallback_from == ""


async def test_a_fallback_that_no_provider_has_stops_the_room(tmp_path: Path) -> None:
    with pytest.raises(RosterInvalid, match="gpt-unknown"):
        async with room(tmp_path, fallback_models="scripted, gpt-unknown"):
            pass


@pytest.mark.requirement("LLM-4")
async def test_a_provider_that_keeps_failing_is_shown_as_failing(tmp_path: Path) -> None:
    broken = AnthropicServer(SCRIPT)
    broken.fault = Fault(raw=(b"data: {garbage\n\n",))
    async with broken.on_a_port() as url, room(tmp_path, anthropic_base_url=url) as stub:
        for _ in range(FAILURES):
            received = await ask(stub, remote("hi"))
            assert received[-1].step_failed.reason == error_pb2.ERROR_REASON_PROVIDER_GARBAGE
        asked = len(broken.asked)
        left_alone = await ask(stub, remote("hi"))
        model = (await stub.GetModel(pb.GetModelRequest(model="claude-sonnet-5-5"))).model
    assert left_alone[-1].step_failed.reason == error_pb2.ERROR_REASON_PROVIDER_FAILED
    assert left_alone[-1].step_failed.retry_delay.seconds > 0
    assert len(broken.asked) == asked == FAILURES
    assert model.state == pb.MODEL_STATE_FAILING


@pytest.mark.requirement("LLM-4")
async def test_a_cancel_reaches_the_provider_within_half_a_second(tmp_path: Path) -> None:
    server = AnthropicServer(SCRIPT)
    async with server.on_a_port() as url, room(tmp_path, anthropic_base_url=url) as stub:
        call = stub.Generate()
        await call.write(remote("stream 5000 tokens 1 ms apart"))
        async for frame in call:
            if frame.HasField("text"):
                break
        await call.write(pb.GenerateRequest(cancel=pb.CancelGeneration()))
        await asyncio.wait_for(server.gone.wait(), 20)
        rest = await frames(call)
    assert rest[-1].step_finished.usage.estimated


@pytest.mark.requirement("LLM-2")
async def test_only_models_of_configured_providers_are_listed_and_two_of_one_name_are_told_apart(
    tmp_path: Path,
) -> None:
    (tmp_path / "models.toml").write_text(
        '[[server]]\nname = "house"\nwire = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nlocal = true\n'
        '[[model]]\nid = "scripted"\nserver = "house"\ncontext_tokens = 9000\noutput_tokens = 100\n'
    )
    async with room(tmp_path, cohere_key=CANARY, cohere_models="command-r7b-12-2024") as stub:
        listed = {model.name: model for model in (await stub.ListModels(pb.ListModelsRequest())).models}
    assert sorted(listed) == ["command-r7b-12-2024", "house/scripted", "scripted"]
    assert listed["house/scripted"].local
    priced = listed["command-r7b-12-2024"]
    assert (priced.input_price_micro_usd, priced.output_price_micro_usd) == (37_500, 150_000)
    assert priced.price_time.seconds > 0
    assert not priced.local


@pytest.mark.requirement("LLM-3")
async def test_what_must_stay_here_is_refused_for_a_remote_model(tmp_path: Path) -> None:
    server = AnthropicServer(SCRIPT)
    async with server.on_a_port() as url, room(tmp_path, anthropic_base_url=url) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(stub, remote("hi", placement=message_pb2.PLACEMENT_LOCAL_ONLY))
    assert reason_of(refused.value) == "PLACEMENT_REFUSED"
    assert server.asked == []


@pytest.mark.requirement("LLM-6")
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (message_pb2.GenerationParameters(temperature=0.5), "PARAMETER_UNSUPPORTED"),
        (message_pb2.GenerationParameters(temperature=3), "INVALID_FIELD"),
        (message_pb2.GenerationParameters(top_p=0), "INVALID_FIELD"),
        (message_pb2.GenerationParameters(json_schema="{"), "INVALID_FIELD"),
        (message_pb2.GenerationParameters(json_schema='{"type": 5}'), "INVALID_FIELD"),
    ],
)
async def test_a_parameter_that_is_wrong_is_refused_before_anything_is_asked(
    tmp_path: Path, parameters: message_pb2.GenerationParameters, reason: str
) -> None:
    server = AnthropicServer(SCRIPT)
    async with server.on_a_port() as url, room(tmp_path, anthropic_base_url=url) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(stub, remote("hi", parameters=parameters))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == reason
    assert server.asked == []


@pytest.mark.requirement("LLM-6")
async def test_a_step_whose_worst_case_is_too_dear_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    server = AnthropicServer(SCRIPT)
    limited = message_pb2.GenerationParameters(max_output_tokens=100)
    async with server.on_a_port() as url, room(tmp_path, anthropic_base_url=url) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(stub, remote("hi", parameters=limited, max_cost_micro_usd=999))
        paid = await ask(stub, remote("hi", parameters=limited, max_cost_micro_usd=2_000))
    assert reason_of(refused.value) == "COST_LIMIT"
    assert 0 < paid[-1].step_finished.usage.cost_micro_usd <= 2_000
    assert len(server.asked) == 1


@pytest.mark.requirement("LLM-8")
async def test_the_same_request_of_an_account_that_wants_it_is_answered_from_memory(tmp_path: Path) -> None:
    server = AnthropicServer(SCRIPT)
    async with server.on_a_port() as url, room(tmp_path, anthropic_base_url=url) as stub:
        wanted = remote("hi", cache_account_id="anna", cache_epoch=1)
        first, second = await ask(stub, wanted), await ask(stub, wanted)
        third = await ask(stub, remote("hi", cache_account_id="anna", cache_epoch=2))
    assert text(first) == text(second) == text(third)
    assert [each[0].started.from_cache for each in (first, second, third)] == [False, True, False]
    assert second[-1].step_finished.usage.cost_micro_usd == 0
    assert len(server.asked) == 2


@pytest.mark.requirement("LLM-8")
async def test_each_request_of_a_batch_has_its_own_outcome(tmp_path: Path) -> None:
    async with room(tmp_path) as stub:
        asked = ("hi", "fail with PROVIDER_REFUSED after 2 tokens", "What is 17*23?")
        requests = [start(words).start for words in asked] + [start("hi", model="gpt-unknown").start]
        outcomes = (await stub.BatchGenerate(pb.BatchGenerateRequest(requests=requests))).outcomes
        with pytest.raises(grpc.aio.AioRpcError) as too_many:
            await stub.BatchGenerate(pb.BatchGenerateRequest(requests=requests * 9))
    assert [outcome.WhichOneof("end") for outcome in outcomes] == ["finished", "failed", "finished", "failed"]
    assert outcomes[0].parts[0].text == "You said: hi"
    assert outcomes[1].parts[0].text == "word word "
    assert outcomes[1].failed.reason == error_pb2.ERROR_REASON_PROVIDER_REFUSED
    assert outcomes[2].parts[0].tool_call.action == "calculate"
    assert outcomes[2].finished.finish_reason == message_pb2.FINISH_REASON_TOOL_CALLS
    assert outcomes[3].failed.reason == error_pb2.ERROR_REASON_UNKNOWN_MODEL
    assert reason_of(too_many.value) == "INVALID_FIELD"


async def test_tokens_are_counted_by_the_provider_that_can(tmp_path: Path) -> None:
    server = AnthropicServer(SCRIPT)
    async with server.on_a_port() as url, room(tmp_path, anthropic_base_url=f"{url}/v1") as stub:
        window = start("hello there").start.window
        counted = await stub.CountTokens(pb.CountTokensRequest(model="claude-sonnet-5-5", window=window))
        local = pb.CountTokensRequest(
            model="claude-sonnet-5-5", window=window, placement=message_pb2.PLACEMENT_LOCAL_ONLY
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CountTokens(local)
    assert reason_of(refused.value) == "PLACEMENT_REFUSED"
    assert not counted.estimated
    assert counted.tokens > 0
    assert server.paths == ["/v1/messages/count_tokens"]


async def test_a_key_is_in_no_log_no_answer_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = AnthropicServer(SCRIPT)
    server.fault = Fault(status=401, body=f'{{"error":{{"message":"bad key {CANARY}"}}}}'.encode())
    (tmp_path / "key").write_text(CANARY)
    told: list[str] = []
    async with (
        server.on_a_port() as url,
        room(
            tmp_path, anthropic_base_url=url, anthropic_key_file=tmp_path / "key", cohere_key=CANARY
        ) as stub,
    ):
        told.append(str(await ask(stub, remote("hi"))))
        told.append(str(await stub.ListModels(pb.ListModelsRequest())))
        window = start("hi").start.window
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CountTokens(pb.CountTokensRequest(model="claude-sonnet-5-5", window=window))
        told += [
            str(refused.value),
            str(refused.value.debug_error_string()),
            str(from_rpc_error(refused.value)),
        ]
    assert server.authorizations == [f"Bearer {CANARY}"] * 2
    lines = [telemetry.scrub(record.getMessage()) + str(record.__dict__) for record in caplog.records]
    assert "canary" not in "".join(told + lines)
