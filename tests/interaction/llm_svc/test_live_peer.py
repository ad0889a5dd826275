"""Adapters before a server that is not ours: llama.cpp's own speaks OpenAI's and Anthropic's wire."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from chassis.testing import socket_directory
from llm_svc.engine.options import READY, Options
from llm_svc.errors import ContextTooLong
from llm_svc.generation import Delta, Finished, FinishReason, Parameters, Request, TextDelta, Usage
from llm_svc.providers.anthropic import Anthropic
from llm_svc.providers.connection import Server
from llm_svc.providers.openai import OpenAI
from llm_svc.providers.provider import Provider
from tests.unit.llm_svc.windows import asking, user
from tests.weights import weights

pytestmark = [pytest.mark.slow, pytest.mark.requirement("LLM-1"), pytest.mark.timeout(120)]


@asynccontextmanager
async def llama(folder: Path, state: Path) -> AsyncIterator[str]:
    """The server on a socket, with the tiny model."""
    socket = str(folder / "e.sock")
    options = Options(
        model=str(weights("tiny")),
        socket=socket,
        state_dir=str(state),
        context_tokens=1024,
        parallel=1,
        threads=2,
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llm_svc.engine", msgspec.json.encode(options).decode()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readexactly(len(READY)), 60) == READY
        yield socket
    finally:
        process.kill()
        await process.wait()


async def collect(provider: Provider, asked: Request) -> list[Delta]:
    async with asyncio.timeout(60), aclosing(provider.generate(asked)) as deltas:
        return [delta async for delta in deltas]


async def test_both_wires_reach_a_real_model(tmp_path: Path) -> None:
    with socket_directory() as folder:
        async with llama(folder, tmp_path) as socket:
            for adapter in (OpenAI, Anthropic):
                await speaks(adapter, socket)


async def speaks(adapter: Callable[[Server], Provider], socket: str) -> None:
    provider = adapter(Server(name="llama", base_url="http://llama/v1/", models=(), uds=socket))
    limited = Parameters(max_output_tokens=8)
    *said, usage, finished = await collect(provider, asking(user("Tell me a story."), parameters=limited))
    assert "".join(delta.text for delta in said if isinstance(delta, TextDelta)).strip()
    assert isinstance(usage, Usage)
    assert not usage.estimated
    assert usage.input_tokens > 3
    assert 0 < usage.output_tokens <= 9
    assert finished == Finished(FinishReason.LENGTH)
    with pytest.raises(ContextTooLong):
        await collect(provider, asking(user("word " * 5_000), parameters=limited))
    counted = await provider.count(asking(user("hello there")))
    assert counted.tokens > 2
    await provider.close()
