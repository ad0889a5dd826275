"""Every adapter of the hot path against a server that misbehaves on a real connection."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from chassis.errors import ServiceError
from chassis.testing import socket_directory
from llm_svc.errors import (
    ContextTooLong,
    ProviderFailed,
    ProviderGarbage,
    ProviderLimited,
    ProviderRefused,
    ProviderTimeout,
)
from llm_svc.generation import Delta, Finished, FinishReason, TextDelta, ToolCall
from llm_svc.providers import script
from llm_svc.providers.anthropic import Anthropic
from llm_svc.providers.cohere import Cohere
from llm_svc.providers.connection import Server
from llm_svc.providers.openai import OpenAI
from llm_svc.providers.provider import Provider
from tests.contracts.anthropic_server import AnthropicServer
from tests.contracts.anthropic_server import event as anthropic_event
from tests.contracts.chat_server import ChatServer, Fault, sse
from tests.contracts.cohere_server import CohereServer
from tests.contracts.cohere_server import event as cohere_event
from tests.unit.llm_svc.windows import answered, asking, called, user

pytestmark = [pytest.mark.requirement("LLM-5", "LLM-1"), pytest.mark.timeout(30)]
SCRIPT = script.load(script.DEFAULT_SCRIPT)


def openai_call(arguments: str) -> bytes:
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": arguments}}
    return sse({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})


def anthropic_call(arguments: str) -> bytes:
    block = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    return (
        anthropic_event("content_block_start", index=0, content_block=block)
        + anthropic_event(
            "content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": arguments}
        )
        + anthropic_event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 1})
        + anthropic_event("message_stop")
    )


def cohere_call(arguments: str) -> bytes:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return cohere_event("tool-call-start", index=0, delta={"message": {"tool_calls": call}}) + cohere_event(
        "message-end", delta={"finish_reason": "TOOL_CALL"}
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """An adapter, a server that speaks its wire, and pieces of that wire."""

    adapter: Callable[[Server], Provider]
    server: Callable[[script.Script], ChatServer]
    hello: bytes
    call: Callable[[str], bytes]
    too_long: bytes


WIRES = {
    "openai": Wire(
        adapter=OpenAI,
        server=ChatServer,
        hello=sse({"choices": [{"delta": {"content": "Hel"}}]}),
        call=openai_call,
        too_long=b'{"error":{"code":"context_length_exceeded"}}',
    ),
    "anthropic": Wire(
        adapter=Anthropic,
        server=AnthropicServer,
        hello=anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
        call=anthropic_call,
        too_long=b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9"}}',
    ),
    "cohere": Wire(
        adapter=Cohere,
        server=CohereServer,
        hello=cohere_event("content-delta", index=0, delta={"message": {"content": {"text": "Hel"}}}),
        call=cohere_call,
        too_long=b'{"message":"too many tokens: size limit exceeded by 9 tokens"}',
    ),
}


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


@asynccontextmanager
async def provider(
    wire: Wire, fault: Fault | None = None, *, silence: float = 5.0, patience: float = 10.0
) -> AsyncIterator[tuple[Provider, ChatServer]]:
    fake = wire.server(SCRIPT)
    fake.fault = fault
    with socket_directory() as folder:
        async with fake.at(folder / "c"):
            server = Server(
                name="fake",
                base_url="http://fake/v1/",
                models=(),
                key="sk-canary-1",
                uds=str(folder / "c"),
                silence_seconds=silence,
                patience_seconds=patience,
            )
            adapter = wire.adapter(server)
            yield adapter, fake
            await adapter.close()


async def collect(adapter: Provider, text: str = "hi") -> list[Delta]:
    async with aclosing(adapter.generate(asking(user(text)))) as deltas:
        return [delta async for delta in deltas]


def fault(wire: Wire, name: str) -> Fault:
    return {
        "500": Fault(status=500),
        "529": Fault(status=529),
        "429": Fault(status=429),
        "401": Fault(status=401, body=b'{"error":{"message":"bad key sk-canary-1"}}'),
        "404": Fault(status=404),
        "too long": Fault(status=400, body=wire.too_long),
        "413": Fault(status=413),
        "a refusal without end": Fault(status=400, body=b"x" * 200_000),
        "a redirect": Fault(status=302, headers={"location": "http://169.254.169.254/"}),
        "a cut": Fault(raw=(wire.hello,)),
        "nothing": Fault(raw=(b": nothing\n\n",)),
        "garbage": Fault(raw=(wire.hello, b"data: {garbage\n\n")),
        "another type": Fault(raw=(wire.hello, b"data: [1]\n\n")),
        "no UTF-8": Fault(raw=(wire.hello, wire.hello.replace(b"Hel", b"\xff\xfe"))),
        "a line without end": Fault(raw=(b"data: " + b"x" * 65_536,) * 20),
        "arguments without end": Fault(raw=(wire.call("x" * 300_000),)),
    }[name]


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("500", ProviderFailed),
        ("529", ProviderFailed),
        ("429", ProviderLimited),
        ("401", ProviderRefused),
        ("404", ProviderRefused),
        ("too long", ContextTooLong),
        ("413", ContextTooLong),
        ("a refusal without end", ProviderRefused),
        ("a redirect", ProviderRefused),
        ("a cut", ProviderFailed),
        ("nothing", ProviderFailed),
        ("garbage", ProviderGarbage),
        ("another type", ProviderGarbage),
        ("no UTF-8", ProviderGarbage),
        ("a line without end", ProviderGarbage),
        ("arguments without end", ProviderGarbage),
    ],
)
async def test_every_fault_ends_in_its_own_reason(wire: Wire, name: str, failure: type[ServiceError]) -> None:
    async with provider(wire, fault(wire, name)) as (adapter, _):
        with pytest.raises(failure) as raised:
            await collect(adapter)
    assert type(raised.value) is failure
    assert "canary" not in f"{raised.value!r} {raised.value.internal} {raised.value.metadata}"


async def test_a_limit_says_when_to_come_back(wire: Wire) -> None:
    async with provider(wire, Fault(status=429, headers={"retry-after": "7"})) as (adapter, _):
        with pytest.raises(ProviderLimited) as raised:
            await collect(adapter)
    assert raised.value.retry_after == timedelta(seconds=7)


async def test_a_silent_server_times_out(wire: Wire) -> None:
    async with provider(wire, Fault(silent=True), silence=0.05) as (adapter, _):
        with pytest.raises(ProviderTimeout):
            await collect(adapter)


async def test_a_server_that_drips_bytes_without_a_word_times_out(wire: Wire) -> None:
    drip = Fault(raw=(b": still here\n\n",) * 10_000, pause=0.01)
    async with provider(wire, drip, patience=0.2) as (adapter, _):
        with pytest.raises(ProviderTimeout):
            await collect(adapter)


async def test_a_server_that_is_not_there_failed(wire: Wire) -> None:
    server = Server(name="gone", base_url="http://gone/v1/", models=(), uds="/tmp/no-such.sock")
    with pytest.raises(ProviderFailed):
        await collect(wire.adapter(server))


@pytest.mark.parametrize("what", ["words", "nothing"])
async def test_an_answer_of_a_hundred_megabytes_is_cut_off_in_little_memory(wire: Wire, what: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    piece = wire.hello.replace(b"Hel", b"x" * 65_536) if what == "words" else b":" + b"x" * 65_535 + b"\n"
    async with provider(wire, Fault(raw=(piece,) * 1_600)) as (adapter, _):
        with pytest.raises(ProviderGarbage):
            await count(adapter)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024  # KiB


async def count(adapter: Provider) -> None:
    """Read an answer and keep nothing of it."""
    async with aclosing(adapter.generate(asking(user("hi")))) as deltas:
        async for delta in deltas:
            assert isinstance(delta, TextDelta)


async def test_arguments_that_are_no_json_are_given_as_the_models_own_words(wire: Wire) -> None:
    async with provider(wire, Fault(raw=(wire.call('{"broken": '), b"data: [DONE]\n\n"))) as (adapter, _):
        *_, call, _usage, finished = await collect(adapter)
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"broken": '
    assert finished == Finished(FinishReason.TOOL_CALLS)


async def test_what_comes_twice_after_the_end_is_not_said_twice(wire: Wire) -> None:
    ended = wire.call("{}") + b"data: [DONE]\n\n"
    async with provider(wire, Fault(raw=(ended, ended))) as (adapter, _):
        deltas = await collect(adapter)
    assert sum(isinstance(delta, ToolCall) for delta in deltas) == 1
    assert sum(isinstance(delta, Finished) for delta in deltas) == 1


async def test_the_text_before_a_cut_is_kept(wire: Wire) -> None:
    async with provider(wire, fault(wire, "a cut")) as (adapter, _):
        deltas = adapter.generate(asking(user("hi")))
        heard = await anext(deltas)
        with pytest.raises(ProviderFailed):
            await anext(deltas)
    assert heard == TextDelta("Hel")


async def test_a_step_that_is_closed_reaches_the_server_long_before_its_end(wire: Wire) -> None:
    async with provider(wire) as (adapter, fake):
        deltas = adapter.generate(asking(user("stream 50000 tokens 1 ms apart")))
        await anext(deltas)
        await deltas.aclose()
        await asyncio.wait_for(fake.gone.wait(), 20)


async def test_steps_one_after_another_share_a_connection(wire: Wire) -> None:
    async with provider(wire) as (adapter, fake):
        for _ in range(3):
            await collect(adapter)
        assert fake.connections == 1


async def test_kept_connections_that_the_server_closes_meanwhile_cost_nobody_an_answer(wire: Wire) -> None:
    async with provider(wire) as (adapter, fake):
        await asyncio.gather(*(collect(adapter) for _ in range(3)))
        kept, fake.hang_ups = fake.connections, 2
        assert await collect(adapter)
        assert fake.hang_ups == 0
        assert fake.connections <= kept + 1


async def test_a_server_that_hangs_up_at_once_is_not_asked_again(wire: Wire) -> None:
    async with provider(wire) as (adapter, fake):
        fake.hang_ups = 1
        with pytest.raises(ProviderFailed):
            await collect(adapter)
        assert len(fake.asked) == 1


@pytest.mark.requirement("LLM-1")
async def test_the_key_travels_in_the_header_and_the_server_is_shown_without_it(wire: Wire) -> None:
    async with provider(wire) as (adapter, fake):
        await collect(adapter)
        assert fake.authorizations == ["Bearer sk-canary-1"]
    assert "canary" not in repr(Server(name="x", base_url="u", models=(), key="sk-canary-1"))


async def test_a_call_id_that_the_window_has_already_is_replaced() -> None:
    openai = WIRES["openai"]
    window = asking(user("x"), called(id="c1"), answered(id="c1"))
    async with (
        provider(openai, Fault(raw=(openai.call("{}"), b"data: [DONE]\n\n"))) as (adapter, _),
        aclosing(adapter.generate(window)) as deltas,
    ):
        calls = [delta async for delta in deltas if isinstance(delta, ToolCall)]
    assert [call.id for call in calls] == ["call_2"]
