"""A LiteLLM proxy beside llm_svc, before the same provider in the same run, where one is installed.

It is not a dependency: `pip install "litellm[proxy]"` into an environment of its own, then name its program
(`--litellm PATH`) or have it on the PATH.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from benchmarks import direct, generation
from benchmarks.rows import MS, Row
from benchmarks.world import gather

READY_SECONDS = 120.0
STREAMS = 100


async def rows(program: str, port: int) -> list[Row]:
    """What the proxy and llm_svc add to the same provider, in turn."""
    async with _proxy(program, port) as theirs, generation.room(port) as ours, httpx.AsyncClient() as http:
        for _ in range(5):  # connections and code are warm
            await direct.turn(http, theirs, "5 tokens")
            await ours.turn("5 tokens")
        return [await _first_token(ours, theirs, http, port), await _streams(ours, theirs)]


async def _first_token(
    ours: generation.Room, theirs: int, http: httpx.AsyncClient, port: int, turns: int = 60
) -> Row:
    proxy, room, bare = [], [], []
    for _ in range(turns):
        proxy.append((await direct.turn(http, theirs, "5 tokens")).first_token)
        room.append((await ours.turn("5 tokens")).first_token)
        bare.append((await direct.turn(http, port, "5 tokens")).first_token)
    provider = statistics.median(bare)
    added = [(statistics.median(each) - provider) * MS for each in (proxy, room)]
    return Row(
        name="first token added by a LiteLLM proxy over that added by llm_svc",
        value=added[0] / added[1],
        unit="x",
        target="≥ 10 x",
        met=added[0] >= 10 * added[1],
        detail=f"proxy +{added[0]:.1f} ms, llm_svc +{added[1]:.1f} ms over the provider's {provider * MS:.1f} ms",
    )


async def _streams(ours: generation.Room, theirs: int) -> Row:
    """100 streams of a provider that is not the limit, first through the one, then through the other."""
    words = "50 tokens"
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=300) as http:
        proxied = await _rate(lambda _: direct.turn(http, theirs, words))
    relayed = await _rate(lambda _: ours.turn(words))
    return Row(
        name=f"tokens relayed by llm_svc over those by a LiteLLM proxy, {STREAMS} streams",
        value=relayed / proxied,
        unit="x",
        target="≥ 10 x",
        met=relayed >= 10 * proxied,
        detail=f"llm_svc {relayed:,.0f} 1/s, proxy {proxied:,.0f} 1/s",
    )


async def _rate(act: object) -> float:
    began = time.perf_counter()
    timings = await gather(STREAMS, act)
    return sum(timing.tokens for timing in timings) / (time.perf_counter() - began)


@asynccontextmanager
async def _proxy(program: str, provider: int) -> AsyncIterator[int]:
    """The proxy before the provider at that port; its own port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as folder:
        config = Path(folder) / "config.yaml"  # JSON is YAML
        model = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{provider}/v1", "api_key": "bench"}
        config.write_text(json.dumps({"model_list": [{"model_name": "bench", "litellm_params": model}]}))
        command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        with (Path(folder) / "log").open("wb") as log:
            child = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
                command,
                env={
                    "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}",
                    "HOME": folder,
                    "LITELLM_LOG": "ERROR",
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it asks the network for prices otherwise
                    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no token to check: its best case
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            await _answers(port)
            yield port
        finally:
            child.terminate()
            child.wait(30)


async def _answers(port: int) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient() as http:
        while True:
            try:
                (await http.get(f"http://127.0.0.1:{port}/health/liveliness")).raise_for_status()
            except httpx.HTTPError:
                await asyncio.sleep(0.2)
            else:
                return
