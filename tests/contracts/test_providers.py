"""Every provider adapter passes the provider contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chassis.clock import SystemClock
from chassis.testing import socket_directory
from llm_svc.engine.assembly import built_in
from llm_svc.engine.options import Options
from llm_svc.providers import script
from llm_svc.providers.anthropic import Anthropic
from llm_svc.providers.cohere import Cohere
from llm_svc.providers.connection import Server
from llm_svc.providers.long_tail import LongTail
from llm_svc.providers.openai import OpenAI
from llm_svc.providers.provider import Model, Provider
from llm_svc.providers.scripted import Scripted
from tests.contracts.anthropic_server import AnthropicServer
from tests.contracts.chat_server import ChatServer
from tests.contracts.cohere_server import CohereServer
from tests.contracts.long_tail_model import function_model
from tests.contracts.provider import ProviderContract, Subject
from tests.weights import weights

SCRIPT = script.load(script.DEFAULT_SCRIPT)


@pytest.mark.requirement("LLM-9")
class TestScripted(ProviderContract):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(provider=Scripted(SCRIPT, SystemClock()), model="scripted")


MODEL = Model(id="fake-1", display_name="Fake", provider="fake", context_tokens=8000, output_tokens=6000)


@asynccontextmanager
async def served(fake: ChatServer, adapter: Callable[[Server], Provider]) -> AsyncIterator[Subject]:
    """An adapter before a server that speaks its wire."""
    with socket_directory() as folder:
        async with fake.at(folder / "c"):
            uds = str(folder / "c")
            provider = adapter(Server(name="fake", base_url="http://fake/v1/", models=(MODEL,), uds=uds))
            yield Subject(provider=provider, model="fake-1")
            await provider.close()


@pytest.mark.requirement("LLM-1")
class TestOpenAICompatible(ProviderContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        async with served(ChatServer(SCRIPT), OpenAI) as subject:
            yield subject


@pytest.mark.requirement("LLM-1")
class TestAnthropic(ProviderContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        async with served(AnthropicServer(SCRIPT), Anthropic) as subject:
            yield subject


@pytest.mark.requirement("LLM-1")
class TestCohere(ProviderContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        async with served(CohereServer(SCRIPT), Cohere) as subject:
            yield subject


@pytest.mark.requirement("LLM-1")
class TestLongTail(ProviderContract):
    @pytest.fixture
    def subject(self) -> Subject:
        server = Server(name="fake", base_url="", models=(MODEL,))
        return Subject(provider=LongTail(server, {"fake-1": function_model(SCRIPT)}), model="fake-1")


@pytest.mark.slow
@pytest.mark.requirement("LLM-7")
@pytest.mark.timeout(240)
class TestBuiltIn(ProviderContract):
    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[Subject]:
        model = Model(
            id="tiny", display_name="Tiny", provider="built-in", context_tokens=2048, output_tokens=256
        )
        with socket_directory() as folder:
            options = Options(
                model=str(weights("tiny")),
                socket=str(folder / "e.sock"),
                state_dir=str(tmp_path),
                context_tokens=4096,
                parallel=2,
                threads=2,
            )
            async with built_in(
                model, options, sha256="tiny", queue=4, clock=SystemClock(), standing=False
            ) as (
                provider,
                process,
            ):
                assert await process.wait_ready(30)
                yield Subject(
                    provider=provider,
                    model="tiny",
                    briefly="Say hello.",
                    at_length="Tell me a long story about a river.",
                )
