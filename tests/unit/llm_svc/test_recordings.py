"""What each provider's decoder makes of streams in its wire form, wherever they are cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.errors import ServiceError
from llm_svc.errors import ProviderFailed
from llm_svc.generation import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    Request,
    TextDelta,
    ToolCall,
    Usage,
)
from llm_svc.providers import anthropic_stream, chat_stream, cohere_stream
from llm_svc.providers.connection import EventDecoder
from tests.unit.llm_svc.windows import asking, user

pytestmark = pytest.mark.requirement("LLM-1")
RECORDINGS = Path(__file__).parents[2] / "recordings"
DECODERS: dict[str, Callable[[Request], EventDecoder]] = {
    "openai": chat_stream.Decoder,
    "anthropic": anthropic_stream.Decoder,
    "cohere": cohere_stream.Decoder,
}
CALLS = [("get_weather", {"city": "Paris"}), ("calculate", {"expression": "17*23"})]


def replay(provider: str, name: str, piece: int = 0) -> list[Delta]:
    data = (RECORDINGS / provider / f"{name}.sse").read_bytes()
    decoder = DECODERS[provider](asking(user("hi")))
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)] if piece else [data]
    return [delta for data in pieces for delta in decoder.feed(data)] + decoder.end()


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def thought(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))


@pytest.mark.parametrize("piece", [0, 1, 7, 64])
@pytest.mark.parametrize("provider", DECODERS)
def test_text_ends_with_its_usage_and_a_stop(provider: str, piece: int) -> None:
    deltas = replay(provider, "text", piece)
    assert text(deltas) == "Bonjour, ça va ? 日本"
    assert isinstance(deltas[-2], Usage)
    assert deltas[-1] == Finished(FinishReason.STOP)


@pytest.mark.parametrize("piece", [0, 13])
@pytest.mark.parametrize("provider", DECODERS)
def test_two_calls_whose_arguments_came_in_fragments_come_whole(provider: str, piece: int) -> None:
    deltas = replay(provider, "parallel_tools", piece)
    calls = [delta for delta in deltas if isinstance(delta, ToolCall)]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == CALLS
    assert len({call.id for call in calls}) == 2
    assert deltas[-1] == Finished(FinishReason.TOOL_CALLS)


@pytest.mark.parametrize(
    ("provider", "name"), [("openai", "reasoning"), ("anthropic", "thinking"), ("cohere", "thinking")]
)
def test_thinking_comes_before_the_answer_and_is_not_part_of_it(provider: str, name: str) -> None:
    deltas = replay(provider, name)
    assert thought(deltas) == "17*20 is 340, 17*3 is 51."
    assert text(deltas) == "391."


@pytest.mark.parametrize(
    ("provider", "name", "reason"),
    [
        ("openai", "length", FinishReason.LENGTH),
        ("openai", "refusal", FinishReason.CONTENT_FILTER),
        ("openai", "content_filter", FinishReason.CONTENT_FILTER),
        ("anthropic", "length", FinishReason.LENGTH),
        ("anthropic", "refusal", FinishReason.CONTENT_FILTER),
        ("anthropic", "stop_sequence", FinishReason.STOP),
        ("cohere", "length", FinishReason.LENGTH),
        ("cohere", "stop_sequence", FinishReason.STOP),
        ("cohere", "citations", FinishReason.STOP),
    ],
)
def test_every_reason_to_stop_has_ours(provider: str, name: str, reason: FinishReason) -> None:
    deltas = replay(provider, name)
    assert deltas[-1] == Finished(reason)
    assert text(deltas)


@pytest.mark.parametrize(
    ("provider", "usage"),
    [
        ("openai", Usage(input_tokens=25, output_tokens=9, cached_tokens=16, reasoning_tokens=4)),
        ("anthropic", Usage(input_tokens=152, output_tokens=9, cached_tokens=100, stored_tokens=40)),
        ("cohere", Usage(input_tokens=215, output_tokens=12, cached_tokens=64)),
    ],
)
def test_usage_is_what_the_provider_counted(provider: str, usage: Usage) -> None:
    assert replay(provider, "text")[-2] == usage


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize("provider", DECODERS)
def test_an_error_inside_the_stream_is_raised_after_what_was_said(provider: str) -> None:
    with pytest.raises(ProviderFailed):
        replay(provider, "error")


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize("provider", DECODERS)
def test_a_stream_that_is_cut_anywhere_never_ends_well(provider: str) -> None:
    data = (RECORDINGS / provider / "text.sse").read_bytes()
    end = data.index(
        {"openai": b'"finish_reason":"stop"', "anthropic": b"message_stop"}.get(provider, b"message-end")
    )
    for cut in range(0, end, 11):
        decoder = DECODERS[provider](asking(user("hi")))
        decoder.feed(data[:cut])
        with pytest.raises(ServiceError):
            decoder.end()


def test_a_signature_closes_its_thought_and_a_redacted_one_comes_whole() -> None:
    deltas = replay("anthropic", "thinking")
    states = [delta.provider_state for delta in deltas if isinstance(delta, ReasoningDelta)]
    assert states[:2] == [b"", b""]
    assert b"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk" in states[2]
    assert b"EmwKAhgBEgy3va3pzix" in states[3]
    assert isinstance(deltas[-2], Usage)
    assert deltas[-2].reasoning_tokens == 31
