"""Rows of the built-in model: through the whole mesh over the engine alone, in turns, in one run."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from benchmarks.rows import Row
from benchmarks.world import ROOT, Client, client, mesh
from chassis.clock import SystemClock
from llm_svc.engine.assembly import built_in
from llm_svc.engine.options import Options
from llm_svc.profiles import built_in_model
from mesh.manifest import built_in as manifest

FIRST = "Write four plain sentences about the sea."
SECOND = "Now four about the mountains."
TOKENS = 60
ROUNDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """One answer: seconds until its first token, and tokens a second after it."""

    first: float
    rate: float


def rows_of(model: str) -> list[Row]:
    """Start a mesh with this built-in model and an engine of the same weights beside it."""
    with mesh(MESH_MODEL=model, MESH_MODELS_DIR=str(ROOT / ".mesh/models")) as here:
        return asyncio.run(_compare(model, here.started_seconds, here))


async def _compare(model: str, started: float, here: object) -> list[Row]:
    through: list[tuple[Pace, Pace]] = []
    bare: list[tuple[Pace, Pace]] = []
    async with client(here) as signed_in, _engine(model) as http:  # type: ignore[arg-type]
        await _through(signed_in)
        await _alone(http)
        for _ in range(ROUNDS):
            through.append(await _through(signed_in))
            bare.append(await _alone(http))
        batched = [await _together(http) for _ in range(ROUNDS)]
    ours, own = _middle(through), _middle(bare)
    return [
        Row(
            name=f"mesh up until ready, model {model}",
            value=started,
            unit="s",
            target="≤ 10 s",
            met=started <= 10,
            detail="empty data folder, weights present",
        ),
        Row(
            name="built-in engine through the mesh over the engine alone",
            value=ours[0].rate / own[0].rate,
            unit="x",
            target="≥ 0.95 x",
            met=ours[0].rate / own[0].rate >= 0.95,
            detail=f"{ours[0].rate:.1f} against {own[0].rate:.1f} tokens/s",
        ),
        Row(
            name="first token of a second turn over the engine's own",
            value=ours[1].first / own[1].first,
            unit="x",
            target="≤ 1.2 x",
            met=ours[1].first / own[1].first <= 1.2,
            detail=f"{ours[1].first:.2f} s, tool choice included, against {own[1].first:.2f} s",
        ),
        _batching(batched),
    ]


def _batching(rounds: list[tuple[float, float]]) -> Row:
    one, two = (statistics.median(each) for each in zip(*rounds, strict=True))
    return Row(
        name="two answers at once of the built-in engine over one, tokens in all",
        value=two / one,
        unit="x",
        target="",
        met=None,
        detail=f"{two:.1f} against {one:.1f} tokens/s, prompts read before",
    )


async def _together(http: httpx.AsyncClient) -> tuple[float, float]:
    """Tokens a second of one answer, and of two at once in all."""
    told: list[list[dict[str, str]]] = [[{"role": "user", "content": words}] for words in (FIRST, SECOND)]
    for messages in told:
        await _completion(http, messages)
    _, alone = await _completion(http, told[0])
    paces = await asyncio.gather(*(_completion(http, messages) for messages in told))
    return alone.rate, sum(pace.rate for _, pace in paces)


def _middle(rounds: list[tuple[Pace, Pace]]) -> tuple[Pace, Pace]:
    first, second = zip(*rounds, strict=True)
    return _median(first), _median(second)


def _median(paces: tuple[Pace, ...]) -> Pace:
    return Pace(
        first=statistics.median(each.first for each in paces),
        rate=statistics.median(each.rate for each in paces),
    )


async def _through(here: Client) -> tuple[Pace, Pace]:
    session = await here.session()
    return await _turn(here, session, FIRST), await _turn(here, session, SECOND)


async def _turn(here: Client, session: str, words: str) -> Pace:
    timing = await here.turn(session, words)
    return Pace(
        first=timing.first_token, rate=(timing.written - 1) / (timing.last_token - timing.first_token)
    )


async def _alone(http: httpx.AsyncClient) -> tuple[Pace, Pace]:
    said: list[dict[str, str]] = [{"role": "user", "content": FIRST}]
    answer, first = await _completion(http, said)
    said += [{"role": "assistant", "content": answer}, {"role": "user", "content": SECOND}]
    _, second = await _completion(http, said)
    return first, second


async def _completion(http: httpx.AsyncClient, messages: list[dict[str, str]]) -> tuple[str, Pace]:
    asked = {"messages": messages, "stream": True, "temperature": 0.2, "max_tokens": TOKENS}
    began, moments, text = time.perf_counter(), [], ""
    async with http.stream("POST", "v1/chat/completions", json=asked) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in msgspec.json.decode(line[6:])["choices"]:
                if piece := choice["delta"].get("content"):
                    moments.append(time.perf_counter() - began)
                    text += piece
    return text, Pace(first=moments[0], rate=(len(moments) - 1) / (moments[-1] - moments[0]))


@asynccontextmanager
async def _engine(name: str) -> AsyncIterator[httpx.AsyncClient]:
    weights = manifest()[name]
    model = built_in_model(weights.name)
    with tempfile.TemporaryDirectory(prefix="mb", dir="/tmp") as folder:
        options = Options(
            model=str(ROOT / ".mesh/models" / weights.file),
            socket=f"{folder}/e.sock",
            state_dir=str(Path(folder) / "s"),
            context_tokens=model.context_tokens * 2,
            parallel=2,
            threads=2,
        )
        opened = built_in(model, options, sha256=weights.sha256, queue=4, clock=SystemClock(), standing=False)
        async with opened as (_, process):
            await process.wait_ready(300)
            transport = httpx.AsyncHTTPTransport(uds=options.socket)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://engine/", timeout=httpx.Timeout(120)
            ) as http:
                yield http
