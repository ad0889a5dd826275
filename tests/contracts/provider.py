"""The contract of `llm_svc.providers.provider.Provider`: one suite that every adapter passes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from llm_svc.generation import (
    Delta,
    Doing,
    Finished,
    FinishReason,
    Message,
    Parameters,
    ReasoningDelta,
    Request,
    Role,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from llm_svc.providers.provider import Provider

CALCULATE = Tool(
    name="calculate",
    description="Work out an arithmetic expression.",
    schema='{"type":"object","properties":{"expression":{"type":"string"}},"required":["expression"]}',
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A provider under test, and what to say to it."""

    provider: Provider
    model: str
    briefly: str = "stream 3 tokens"
    at_length: str = "stream 5000 tokens 1 ms apart"
    sum: str = "What is 17*23?"


def user(text: str) -> Message:
    """What a person says."""
    return Message(role=Role.USER, parts=(TextPart(text),))


def request(subject: Subject, *messages: Message, **parameters: object) -> Request:
    """A request for the subject's model, with the calculator on offer where a tool choice is given."""
    given = Parameters(**{"temperature": 0.0, "seed": 1, **parameters})  # type: ignore[arg-type]
    tools = (CALCULATE,) if "tool_choice" in parameters else ()
    return Request(model=subject.model, messages=messages, tools=tools, parameters=given)


async def collect(subject: Subject, asked: Request) -> list[Delta]:
    """Every delta of one step but Doing, and Usage before the one that counts."""
    async with asyncio.timeout(50), aclosing(subject.provider.generate(asked)) as deltas:
        said = [delta async for delta in deltas if not isinstance(delta, Doing)]
    return [delta for delta in said if not isinstance(delta, Usage) or delta is said[-2]]


class ProviderContract(ABC):
    """Subclass it with a `subject` fixture."""

    @pytest.fixture
    @abstractmethod
    def subject(self) -> Subject:
        """The adapter, ready to be asked."""

    async def test_every_model_names_its_provider_and_says_how_much_it_reads(self, subject: Subject) -> None:
        models = await subject.provider.models()
        assert subject.model in [model.id for model in models]
        assert all(model.provider == subject.provider.name for model in models)
        assert all(model.context_tokens >= model.output_tokens > 0 for model in models)

    async def test_text_then_one_usage_then_one_finish(self, subject: Subject) -> None:
        *said, usage, finished = await collect(
            subject, request(subject, user(subject.briefly), max_output_tokens=64)
        )
        assert said
        assert all(isinstance(delta, TextDelta) for delta in said)
        assert isinstance(usage, Usage)
        assert usage.input_tokens > 0
        assert usage.output_tokens > 0
        assert isinstance(finished, Finished)
        assert finished.reason in (FinishReason.STOP, FinishReason.LENGTH)

    async def test_an_answer_is_cut_at_its_limit_of_tokens_and_says_so(self, subject: Subject) -> None:
        asked = request(subject, user(subject.at_length), max_output_tokens=4)
        *_, usage, finished = await collect(subject, asked)
        assert finished == Finished(FinishReason.LENGTH)
        assert isinstance(usage, Usage)
        assert usage.output_tokens <= 5

    async def test_a_tool_call_comes_whole_and_the_step_ends_with_it(self, subject: Subject) -> None:
        asked = request(subject, user(subject.sum), tool_choice=ToolChoice.REQUIRED)
        call, usage, finished = await collect(subject, asked)
        assert isinstance(call, ToolCall)
        assert call.id
        assert call.name == "calculate"
        assert call.arguments.startswith('{"expression"')
        assert isinstance(usage, Usage)
        assert finished == Finished(FinishReason.TOOL_CALLS)

    async def test_after_a_tool_has_answered_the_model_answers_in_text(self, subject: Subject) -> None:
        call = ToolCall(id="call_1", name="calculate", arguments='{"expression":"17*23"}')
        window = (
            user(subject.sum),
            Message(role=Role.ASSISTANT, parts=(call,)),
            Message(role=Role.TOOL, parts=(ToolResult(call_id="call_1", name="calculate", text="391"),)),
        )
        asked = request(subject, *window, tool_choice=ToolChoice.NONE, max_output_tokens=32)
        *said, _, finished = await collect(subject, asked)
        assert any(isinstance(delta, TextDelta) for delta in said)
        assert isinstance(finished, Finished)
        assert finished.reason is not FinishReason.TOOL_CALLS

    async def test_a_closed_step_says_nothing_more_and_the_next_one_is_served(self, subject: Subject) -> None:
        deltas = subject.provider.generate(request(subject, user(subject.at_length)))
        async with asyncio.timeout(20):
            first = await anext(
                delta async for delta in deltas if isinstance(delta, (TextDelta, ReasoningDelta))
            )
            assert first
            await deltas.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(deltas)
            assert await collect(subject, request(subject, user(subject.briefly), max_output_tokens=4))

    async def test_a_cancelled_reader_leaves_nothing_behind(self, subject: Subject) -> None:
        task = asyncio.ensure_future(collect(subject, request(subject, user(subject.at_length))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await collect(subject, request(subject, user(subject.briefly), max_output_tokens=4))

    async def test_steps_run_side_by_side(self, subject: Subject) -> None:
        asked = request(subject, user(subject.briefly), max_output_tokens=8)
        answers = await asyncio.gather(*(collect(subject, asked) for _ in range(3)))
        assert all(isinstance(answer[-1], Finished) for answer in answers)

    async def test_a_window_is_counted(self, subject: Subject) -> None:
        short = await subject.provider.count(request(subject, user("hi")))
        long = await subject.provider.count(request(subject, user("hello there, my friend " * 50)))
        assert 0 < short.tokens < long.tokens

    async def test_closing_twice_is_allowed(self, subject: Subject) -> None:
        await subject.provider.close()
        await subject.provider.close()
