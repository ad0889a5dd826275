"""The OpenAI-compatible adapter against a server that misbehaves on a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

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
from llm_svc.generation import Delta, TextDelta
from llm_svc.providers import script
from llm_svc.providers.connection import Server
from llm_svc.providers.openai import OpenAI
from tests.contracts.chat_server import ChatServer, Fault, sse
from tests.unit.llm_svc.windows import asking, user

pytestmark = [pytest.mark.requirement("LLM-5", "LLM-1"), pytest.mark.timeout(20)]
HELLO = sse({"choices": [{"delta": {"content": "Hel"}}]})


@asynccontextmanager
async def provider(
    fault: Fault | None = None, silence: float = 5.0
) -> AsyncIterator[tuple[OpenAI, ChatServer]]:
    fake = ChatServer(script.load(script.DEFAULT_SCRIPT))
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
            )
            adapter = OpenAI(server)
            yield adapter, fake
            await adapter.close()


async def collect(adapter: OpenAI, text: str = "hi") -> list[Delta]:
    async with aclosing(adapter.generate(asking(user(text)))) as deltas:
        return [delta async for delta in deltas]


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault(status=500), ProviderFailed),
        (Fault(status=429), ProviderLimited),
        (Fault(status=401, body=b'{"error":{"message":"bad key sk-canary-1"}}'), ProviderRefused),
        (Fault(status=400, body=b'{"error":{"code":"context_length_exceeded"}}'), ContextTooLong),
        (Fault(status=400, body=b"x" * 200_000), ProviderRefused),
        (Fault(raw=(HELLO,)), ProviderFailed),
        (Fault(raw=(HELLO, b"data: {garbage\n\n")), ProviderGarbage),
        (Fault(raw=(HELLO, b"data: \xff\xfe\n\n")), ProviderGarbage),
        (Fault(raw=(b"data: " + b"x" * 65_536,) * 20), ProviderGarbage),
    ],
)
async def test_every_fault_ends_in_its_own_reason(fault: Fault, failure: type[ServiceError]) -> None:
    async with provider(fault) as (adapter, _):
        with pytest.raises(failure) as raised:
            await collect(adapter)
    assert type(raised.value) is failure
    assert "canary" not in f"{raised.value!r} {raised.value.internal}"


async def test_a_silent_server_times_out() -> None:
    async with provider(Fault(silent=True), silence=0.05) as (adapter, _):
        with pytest.raises(ProviderTimeout):
            await collect(adapter)


async def test_a_server_that_is_not_there_failed() -> None:
    server = Server(name="gone", base_url="http://gone/v1/", models=(), uds="/tmp/no-such.sock")
    with pytest.raises(ProviderFailed):
        await collect(OpenAI(server))


async def test_the_text_before_a_cut_is_kept() -> None:
    async with provider(Fault(raw=(HELLO,))) as (adapter, _):
        deltas = adapter.generate(asking(user("hi")))
        heard = await anext(deltas)
        with pytest.raises(ProviderFailed):
            await anext(deltas)
    assert heard == TextDelta("Hel")


async def test_a_step_that_is_closed_reaches_the_server_within_a_second() -> None:
    async with provider() as (adapter, fake):
        deltas = adapter.generate(asking(user("stream 5000 tokens 1 ms apart")))
        await anext(deltas)
        await deltas.aclose()
        await asyncio.wait_for(fake.gone.wait(), 1.0)


async def test_steps_one_after_another_share_a_connection() -> None:
    async with provider() as (adapter, fake):
        for _ in range(3):
            await collect(adapter)
        assert fake.connections == 1


async def test_the_key_travels_in_the_header_and_the_server_is_shown_without_it() -> None:
    async with provider() as (adapter, fake):
        await collect(adapter)
        assert fake.authorizations == ["Bearer sk-canary-1"]
    assert "canary" not in repr(Server(name="x", base_url="u", models=(), key="sk-canary-1"))
