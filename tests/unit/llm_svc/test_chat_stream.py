"""The event stream of a chat completion: every way in which servers send it, and every way it breaks."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ServiceError
from llm_svc.errors import (
    ContextTooLong,
    ProviderFailed,
    ProviderGarbage,
    ProviderLimited,
    ProviderRefused,
    ProviderTimeout,
)
from llm_svc.generation import Delta, Finished, FinishReason, ReasoningDelta, TextDelta, ToolCall, Usage
from llm_svc.providers.chat_stream import Decoder
from llm_svc.providers.event_lines import MAX_LINE_BYTES
from llm_svc.providers.refusal import refusal
from tests.unit.llm_svc.windows import answered, asking, called, user

pytestmark = pytest.mark.requirement("LLM-1", "LLM-5")
ASKED = asking(user("hi"))
DONE = b"data: [DONE]\n\n"


def event(delta: object = None, finish: str | None = None, **more: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


STOP = event({}, "stop")
USAGE = event(
    usage={"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
)


def decode(*pieces: bytes) -> list[Delta]:
    decoder = Decoder(ASKED)
    return [delta for piece in pieces for delta in decoder.feed(piece)] + decoder.end()


def test_text_usage_and_finish_come_in_their_order() -> None:
    assert decode(event({"content": "Hel"}), event({"content": "lo"}), STOP, USAGE, DONE) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        Usage(input_tokens=9, output_tokens=2, cached_tokens=4),
        Finished(FinishReason.STOP),
    ]


def test_what_came_in_one_read_comes_as_one_delta() -> None:
    assert decode(event({"content": "Hel"}) + event({"content": "lo"}) + STOP + USAGE)[0] == TextDelta(
        "Hello"
    )


@given(st.lists(st.integers(0, 400), max_size=6))
def test_where_the_bytes_are_cut_changes_no_text(cuts: list[int]) -> None:
    whole = (
        event({"content": "naïve "}) + b": ping\r\n\r\n" + event({"content": "日本"}) + STOP + USAGE + DONE
    )
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    deltas = decode(*(whole[a:b] for a, b in pairwise(edges)))
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == "naïve 日本"
    assert deltas[-1] == Finished(FinishReason.STOP)


def test_fragments_of_two_calls_become_two_whole_calls() -> None:
    deltas = decode(
        event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "one", "arguments": ""}}]}),
        event({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "two"}}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        event({}, "tool_calls"),
        USAGE,
    )
    assert deltas[:2] == [
        ToolCall(id="a", name="one", arguments='{"x":1}'),
        ToolCall(id="b", name="two", arguments="{}"),
    ]
    assert deltas[-1] == Finished(FinishReason.TOOL_CALLS)


def test_a_call_without_an_id_gets_one_that_the_window_does_not_have() -> None:
    decoder = Decoder(asking(user("x"), called(id="call_1"), answered(id="call_1")))
    decoder.feed(event({"tool_calls": [{"index": 0, "function": {"name": "one"}}]}) + event({}, "stop"))
    assert decoder.end()[0] == ToolCall(id="call_2", name="one", arguments="{}")


def test_calls_make_the_step_end_with_them_whatever_the_server_says() -> None:
    decoder = Decoder(ASKED)
    decoder.feed(event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "one"}}]}) + STOP)
    assert decoder.end()[-1] == Finished(FinishReason.TOOL_CALLS)
    assert decode(event({}, "tool_calls"))[-1] == Finished(FinishReason.STOP)


def test_reasoning_keeps_its_place_before_the_text() -> None:
    deltas = decode(event({"reasoning_content": "hm"}) + event({"content": "Hi"}) + STOP)
    assert deltas[:2] == [ReasoningDelta("hm"), TextDelta("Hi")]


def test_usage_that_was_not_reported_is_estimated_and_marked() -> None:
    usage = decode(event({"content": "twelve chars"}), STOP)[-2]
    assert isinstance(usage, Usage)
    assert usage.estimated
    assert usage.output_tokens > 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("eos", FinishReason.STOP),
    ],
)
def test_every_stop_reason_has_ours(said: str, reason: FinishReason) -> None:
    assert decode(event({}, said))[-1] == Finished(reason)


def test_a_stream_that_is_cut_failed() -> None:
    decoder = Decoder(ASKED)
    decoder.feed(event({"content": "Hel"}))
    with pytest.raises(ProviderFailed):
        decoder.end()


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {not json}\n\n",
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n',
        b"data: " + b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_garbage_is_called_garbage(garbage: bytes) -> None:
    with pytest.raises(ProviderGarbage):
        Decoder(ASKED).feed(garbage)


def test_arguments_without_end_are_garbage() -> None:
    decoder = Decoder(ASKED)
    piece = event({"tool_calls": [{"index": 0, "function": {"name": "one", "arguments": "x" * 100_000}}]})
    with pytest.raises(ProviderGarbage):
        decoder.feed(piece * 4)


def test_nothing_after_the_end_is_read() -> None:
    decoder = Decoder(ASKED)
    decoder.feed(STOP + DONE + b"data: {garbage\n\n")
    assert decoder.done
    assert decoder.end()[-1] == Finished(FinishReason.STOP)


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (401, b"", ProviderRefused),
        (404, b"", ProviderRefused),
        (408, b"", ProviderTimeout),
        (429, b"", ProviderLimited),
        (500, b"", ProviderFailed),
        (503, b"<html>", ProviderFailed),
        (400, b"\xff", ProviderRefused),
        (400, b'{"error":{"code":"context_length_exceeded","message":"m"}}', ContextTooLong),
        (400, b'{"error":{"type":"exceed_context_size_error","code":400,"message":"m"}}', ContextTooLong),
        (0, b'{"error":{"type":"rate_limit_error","message":"m"}}', ProviderLimited),
        (0, b'{"error":{"message":"overloaded"}}', ProviderFailed),
    ],
)
def test_every_refusal_has_one_of_our_reasons(status: int, body: bytes, failure: type[ServiceError]) -> None:
    assert type(refusal(status, body)) is failure


def test_an_error_inside_the_stream_is_raised() -> None:
    with pytest.raises(ContextTooLong):
        Decoder(ASKED).feed(
            b'data: {"error": {"code": 400, "message": "the request exceeds the context size"}}\n\n'
        )


def test_no_word_of_a_server_gets_into_our_error() -> None:
    error = refusal(400, b'{"error":{"message":"key sk-canary-123 is wrong"}}')
    assert "canary" not in f"{error!r} {error} {error.message} {error.internal}"
