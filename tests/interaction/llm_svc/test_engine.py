"""The built-in engine with a real, tiny model: its process, its places, its caches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest

from chassis.clock import SystemClock
from chassis.testing import eventually, socket_directory
from llm_svc import routing
from llm_svc.engine.assembly import built_in
from llm_svc.engine.options import Options
from llm_svc.engine.process import EngineProcess, Phase
from llm_svc.engine.standing import FILE
from llm_svc.errors import ContextTooLong, EngineBusy, EngineCrashed
from llm_svc.generation import (
    Activity,
    Delta,
    Doing,
    Message,
    Parameters,
    Request,
    Role,
    TextDelta,
    TextPart,
    Tool,
    ToolChoice,
    Usage,
)
from llm_svc.providers import builtin
from llm_svc.providers.builtin import Builtin
from llm_svc.providers.provider import Model, ModelState
from tests.weights import weights

# ruff: noqa: ASYNC240 - the files of a test are local and small

pytestmark = [
    pytest.mark.slow,
    pytest.mark.requirement("LLM-7"),
    pytest.mark.timeout(240),
]

MODEL = Model(id="tiny", display_name="Tiny", provider="built-in", context_tokens=2048, output_tokens=400)
STORY = "Tell me a very long story about a river and the people who live beside it."


@asynccontextmanager
async def engine(
    state: Path, *, parallel: int = 2, queue: int = 4, standing: bool = False, tools: bool = False
) -> AsyncIterator[tuple[Builtin, EngineProcess]]:
    with socket_directory() as folder:
        options = Options(
            model=str(weights("tiny")),
            socket=str(folder / "e.sock"),
            state_dir=str(state),
            context_tokens=2048 * parallel,
            parallel=parallel,
            threads=2,
        )
        async with built_in(
            replace(MODEL, tools=tools),
            options,
            sha256="tiny",
            queue=queue,
            clock=SystemClock(),
            standing=standing,
        ) as (provider, process):
            assert await process.wait_ready(30)
            yield provider, process


def asking(*texts: str, tokens: int = 8, schema: str | None = None) -> Request:
    roles = [Role.USER, Role.ASSISTANT] * len(texts)
    messages = tuple(
        Message(role=role, parts=(TextPart(text),)) for role, text in zip(roles, texts, strict=False)
    )
    parameters = Parameters(temperature=0.0, max_output_tokens=tokens, json_schema=schema)
    return Request(model="tiny", messages=messages, parameters=parameters)


async def collect(provider: Builtin, request: Request) -> list[Delta]:
    async with asyncio.timeout(40), aclosing(provider.generate(request)) as deltas:
        return [delta async for delta in deltas]


def usage(deltas: list[Delta]) -> Usage:
    return next(delta for delta in deltas if isinstance(delta, Usage))


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def test_the_second_turn_reads_only_what_is_new(tmp_path: Path) -> None:
    async with engine(tmp_path) as (provider, _):
        first = await collect(provider, asking("Tell me about the town of Bath. " * 8))
        second = await collect(
            provider, asking("Tell me about the town of Bath. " * 8, text(first), "And now?")
        )
    before = usage(first).input_tokens
    assert usage(second).cached_tokens >= before - 2
    assert usage(second).input_tokens - usage(second).cached_tokens < before


async def test_more_conversations_than_places_keep_their_prefixes(tmp_path: Path) -> None:
    async with engine(tmp_path, parallel=1) as (provider, _):
        opening = {name: f"My name is {name}. " * 20 for name in ("Anna", "Bruno", "Clara")}
        said = {name: text(await collect(provider, asking(words))) for name, words in opening.items()}
        again = [
            usage(await collect(provider, asking(words, said[name], "Who am I?")))
            for name, words in opening.items()
        ]
    assert all(used.cached_tokens > used.input_tokens / 2 for used in again)


async def test_a_cancelled_request_frees_its_place_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path, parallel=1) as (provider, _):
        await collect(provider, asking("hi"))
        began = perf_counter()
        await collect(provider, asking("hi there"))
        alone = perf_counter() - began
        long_one = provider.generate(asking(STORY, tokens=400))
        async for delta in long_one:
            if isinstance(delta, TextDelta):
                break
        began = perf_counter()
        await long_one.aclose()
        await collect(provider, asking("hi again"))
        after = perf_counter() - began
    assert after < alone + 1.5, "400 tokens of the old answer would have taken about 8 s"


async def test_a_request_that_must_wait_says_so_and_one_too_many_is_refused(tmp_path: Path) -> None:
    async with engine(tmp_path, parallel=1, queue=1) as (provider, _), asyncio.timeout(30):
        running = provider.generate(asking(STORY, tokens=400))
        async for delta in running:
            if isinstance(delta, TextDelta):
                break
        waiting = provider.generate(asking("hi"))
        assert await anext(waiting) == Doing(Activity.QUEUED)
        turn = asyncio.ensure_future(anext(waiting))
        await asyncio.sleep(0)
        with pytest.raises(EngineBusy):
            await collect(provider, asking("hi"))
        await running.aclose()
        assert await turn == Doing(Activity.WORKING)
        await waiting.aclose()


async def test_a_crash_in_mid_answer_is_told_and_the_engine_comes_back(tmp_path: Path) -> None:
    async with engine(tmp_path) as (provider, process), asyncio.timeout(40):
        deltas = provider.generate(asking(STORY, tokens=400))
        async for delta in deltas:
            if isinstance(delta, TextDelta):
                break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineCrashed):
            async for _ in deltas:
                pass
        await eventually(lambda: process.progress.phase is not Phase.READY)
        assert text(await collect(provider, asking("hi")))
        assert [model.state for model in await provider.models()] == [ModelState.READY]


TOOLS = (
    Tool(name="calculate", description="Works out an arithmetic expression exactly.", schema="{}"),
    Tool(name="feed_cat", description="Feeds the cat.\nAt any time of the day.", schema="{}"),
)


def agents_turn(text: str) -> Request:
    """An agent's turn; the model is not asked for a tool."""
    system = Message(role=Role.SYSTEM, parts=(TextPart("You are the assistant of one person. " * 12),))
    return Request(
        model="tiny",
        messages=(system, Message(role=Role.USER, parts=(TextPart(text),))),
        tools=TOOLS,
        parameters=Parameters(temperature=0.0, max_output_tokens=4, tool_choice=ToolChoice.NONE),
    )


def routers_question() -> Request:
    """What the engine is asked about the same tools."""
    prefix = routing.prefix(routing.load_lesson(), TOOLS)
    return Request(
        model="tiny",
        messages=(*prefix, Message(role=Role.USER, parts=(TextPart("What is 2+2?"),))),
        parameters=Parameters(temperature=0.0, max_output_tokens=4),
    )


async def test_what_a_turn_begins_with_is_read_beforehand_at_the_next_start(tmp_path: Path) -> None:
    async with engine(tmp_path, standing=True, tools=True) as (provider, _):
        assert usage(await collect(provider, agents_turn("hi"))).cached_tokens < 40
    assert not list(tmp_path.glob("*.prefix")), "nothing was known at the first start"
    for _ in range(2):  # read at the second start, given back from its file at the third
        async with engine(tmp_path, standing=True, tools=True) as (provider, _):
            question = usage(await collect(provider, routers_question()))
            answer = usage(await collect(provider, agents_turn("hello")))
        assert question.cached_tokens > question.input_tokens - 20
        assert answer.cached_tokens > 80
    assert len(list(tmp_path.glob("*.prefix"))) == 2


@pytest.mark.requirement("AGT-2")
async def test_what_a_conversation_was_offered_is_not_kept(tmp_path: Path) -> None:
    """Which tools a turn needs may tell what it is about."""
    async with engine(tmp_path, standing=True, tools=True) as (provider, _):
        await collect(provider, replace(agents_turn("hi"), session="s1"))
        assert not (tmp_path / FILE).exists()
        await collect(provider, agents_turn("hi"))
        assert (tmp_path / FILE).exists()


async def test_a_saved_prefix_is_given_back_and_that_of_another_model_is_swept(tmp_path: Path) -> None:
    for _ in range(2):
        async with engine(tmp_path, standing=True) as (provider, _):
            await collect(provider, agents_turn("hi"))
    saved = list(tmp_path.glob("*.prefix"))
    written = saved[0].stat().st_mtime_ns
    (tmp_path / "0ld.prefix").write_bytes(b"of another model")
    async with engine(tmp_path, standing=True):
        pass
    assert list(tmp_path.glob("*.prefix")) == saved
    assert saved[0].stat().st_mtime_ns == written


async def test_a_saved_prefix_that_is_broken_only_costs_time(tmp_path: Path) -> None:
    for _ in range(2):
        async with engine(tmp_path, standing=True) as (provider, _):
            await collect(provider, agents_turn("hi"))
    saved = next(tmp_path.glob("*.prefix"))
    saved.write_bytes(saved.read_bytes()[:1000])
    async with engine(tmp_path, standing=True) as (provider, _):
        assert text(await collect(provider, asking("hi")))
    assert saved.stat().st_size > 1000


async def test_an_answer_can_be_held_to_a_json_schema(tmp_path: Path) -> None:
    schema = '{"type":"object","properties":{"age":{"type":"integer"}},"required":["age"]}'
    async with engine(tmp_path) as (provider, _):
        answer = text(await collect(provider, asking("Anna is 34. Her age?", tokens=60, schema=schema)))
    assert isinstance(json.loads(answer)["age"], int)


async def test_a_window_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with engine(tmp_path, parallel=1) as (provider, _):
        with pytest.raises(ContextTooLong):
            await collect(provider, asking("word " * 6_000))


async def test_the_child_sees_none_of_our_environment_and_is_gone_afterwards(tmp_path: Path) -> None:
    async with engine(tmp_path) as (_, process):
        pid = process.pid
        assert pid is not None
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert {entry.partition(b"=")[0] for entry in environment.split(b"\0") if entry} <= {
        b"PYTHONPATH",
        b"OMP_WAIT_POLICY",
    }
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.requirement("ID-8")
async def test_an_engine_that_forgets_has_nothing_left_of_a_conversation(tmp_path: Path) -> None:
    words = "My secret is the colour of the old mill. " * 8
    async with engine(tmp_path) as (provider, process):
        await collect(provider, asking(words))
        assert usage(await collect(provider, asking(words))).cached_tokens > 50
        before = process.pid
        await provider.forget()
        assert process.pid not in (None, before)
        assert usage(await collect(provider, asking(words))).cached_tokens < 20


@pytest.mark.requirement("ID-8")
async def test_an_engine_forgets_in_time_whoever_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "FORGETTING_PATIENCE_SECONDS", 0.2)
    async with engine(tmp_path) as (provider, process):
        deltas = provider.generate(asking(STORY, tokens=400))
        while not isinstance(await anext(deltas), TextDelta):
            pass
        before = process.pid
        async with asyncio.timeout(60):
            await provider.forget()
        assert process.pid not in (None, before)
        with pytest.raises(EngineCrashed):
            async for _ in deltas:
                pass
        assert usage(await collect(provider, asking("And now?"))).output_tokens > 0
