"""As the clouds are reached: by TLS, on connections that are kept, and a step that is closed ends there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from llm_svc.errors import ProviderFailed
from llm_svc.generation import Delta, TextDelta
from llm_svc.providers import script
from llm_svc.providers.anthropic import Anthropic
from llm_svc.providers.cohere import Cohere
from llm_svc.providers.connection import Server
from llm_svc.providers.openai import OpenAI
from llm_svc.providers.provider import Provider
from tests.contracts.anthropic_server import AnthropicServer
from tests.contracts.certificates import tls
from tests.contracts.chat_server import ChatServer
from tests.contracts.cohere_server import CohereServer
from tests.unit.llm_svc.windows import asking, user

pytestmark = [pytest.mark.requirement("LLM-1", "LLM-4"), pytest.mark.timeout(20)]
SCRIPT = script.load(script.DEFAULT_SCRIPT)
PAIRS = [(OpenAI, ChatServer), (Anthropic, AnthropicServer), (Cohere, CohereServer)]


async def collect(provider: Provider) -> list[Delta]:
    async with aclosing(provider.generate(asking(user("hi")))) as deltas:
        return [delta async for delta in deltas]


@pytest.mark.parametrize(("adapter", "server"), PAIRS)
async def test_steps_share_a_connection_and_a_closed_one_ends_at_the_provider(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    adapter: Callable[[Server], Provider],
    server: Callable[[script.Script], ChatServer],
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    fake = server(SCRIPT)
    async with fake.on_a_port(tls(tmp_path)) as url:
        provider = adapter(Server(name="x", base_url=f"{url}/v1/", models=(), key="k"))
        for _ in range(3):
            said = await collect(provider)
        assert "".join(delta.text for delta in said if isinstance(delta, TextDelta)) == "You said: hi"
        assert fake.connections == 1
        deltas = provider.generate(asking(user("stream 5000 tokens 1 ms apart")))
        await anext(deltas)
        await deltas.aclose()
        await asyncio.wait_for(fake.gone.wait(), 20)
        await provider.close()


async def test_a_server_whose_certificate_nobody_vouches_for_is_not_told_the_key(tmp_path: Path) -> None:
    fake = ChatServer(SCRIPT)
    async with fake.on_a_port(tls(tmp_path)) as url:
        provider = OpenAI(Server(name="x", base_url=f"{url}/v1/", models=(), key="k"))
        with pytest.raises(ProviderFailed):
            await collect(provider)
        await provider.close()
    assert fake.asked == []
