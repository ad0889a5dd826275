"""The official SDKs agree: they read our recordings as we do, and would send what we send.

They are at hand in tests alone; each is given a transport that answers from a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import cohere
import httpx
import httpx2
import msgspec
import openai
import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from cohere.types import ChatMessages, ResponseFormatV2, ToolV2
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import BaseModel, TypeAdapter

from llm_svc.generation import (
    ImagePart,
    Parameters,
    ReasoningPart,
    Request,
    Role,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_svc.providers import anthropic_body, chat_body, cohere_body
from tests.unit.llm_svc.test_recordings import RECORDINGS, replay, text, thought
from tests.unit.llm_svc.windows import CALCULATE, WEATHER, answered, asking, assistant, called, said, user

pytestmark = pytest.mark.requirement("LLM-1")
SIGNED = msgspec.json.encode(anthropic_body.Thought(signature="c2lnbmVk"))
SCHEMA = (
    '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
)
WINDOW = (
    said(Role.SYSTEM, "Be brief."),
    user("What is in this picture, and what is 17*23?", ImagePart(b"\x89PNG", "image/png")),
    assistant(
        ReasoningPart("hm", SIGNED),
        "I will look.",
        ToolCall(id="call_1", name="calculate", arguments='{"expression":"17*23"}'),
        ToolCall(id="call_2", name="get_weather", arguments="not json"),
    ),
    said(
        Role.TOOL,
        ToolResult(call_id="call_1", name="calculate", text="391"),
        ToolResult(call_id="call_2", name="get_weather", text="no such place", failed=True),
    ),
    user(TextPart("a page says so", untrusted=True), "And now?"),
)
FULL = asking(
    *WINDOW,
    tools=(CALCULATE, WEATHER),
    parameters=Parameters(
        temperature=0.3,
        top_p=0.9,
        max_output_tokens=100,
        stop=("END",),
        seed=7,
        json_schema=SCHEMA,
        tool_choice=ToolChoice.REQUIRED,
    ),
)


def wire(body: object) -> Any:
    """The body as the server reads it."""
    return json.loads(msgspec.json.encode(body))


def checked(annotation: Any, value: Any) -> Any:
    """The value as the SDK's own type reads it, every lazy part of it read too."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)  # must outlive the lazy parts
    return _read(adapter.validate_python(value))


def _read(value: Any) -> Any:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{type(value).__name__} has no {value.model_extra}"
        return {name: _read(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, dict):
        return {name: _read(each) for name, each in value.items()}
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return value
    return [_read(each) for each in value]


@pytest.mark.requirement("LLM-6")
@pytest.mark.parametrize("dialect", [chat_body.COMPATIBLE, chat_body.OFFICIAL])
def test_what_we_ask_of_openai_is_what_its_types_describe(dialect: chat_body.Dialect) -> None:
    body = wire(chat_body.body(FULL, model="gpt-4.1", dialect=dialect))
    assert checked(CompletionCreateParamsStreaming, body) == body
    assert body[dialect.limit] == 100
    assert body["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)


@pytest.mark.requirement("LLM-6")
def test_what_we_ask_of_anthropic_is_what_its_types_describe() -> None:
    body = wire(anthropic_body.body(FULL, model="claude-sonnet-5-5", output_tokens=4096))
    assert checked(MessageCreateParamsStreaming, body) == body
    assert body["max_tokens"] == 100
    assert body["output_config"]["format"]["schema"] == json.loads(SCHEMA)
    assert body["tool_choice"] == {"type": "any"}
    assert not {"temperature", "top_p", "seed"} & body.keys()
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][1]["content"]] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert [block["type"] for block in body["messages"][2]["content"]][:2] == ["tool_result"] * 2
    counted = wire(anthropic_body.asked(FULL, model="claude-sonnet-5-5"))
    assert checked(MessageCountTokensParams, counted) == counted


@pytest.mark.requirement("LLM-6")
def test_what_we_ask_of_cohere_is_what_its_types_describe() -> None:
    body = wire(cohere_body.body(FULL, model="command-a-03-2025"))
    assert checked(ChatMessages, body["messages"]) == body["messages"]
    assert checked(list[ToolV2], body["tools"]) == body["tools"]
    assert checked(ResponseFormatV2, body["response_format"]) == body["response_format"]
    known = cohere.ClientV2.chat_stream.__code__.co_varnames
    assert {*body} - {"stream"} <= set(known)
    assert (body["p"], body["tool_choice"], body["seed"]) == (0.9, "REQUIRED", 7)


@pytest.mark.parametrize(
    ("of", "state"),
    [("nobody", b""), ("another provider", b'{"of":"other","signature":"x"}'), ("noise", b"\xff")],
)
def test_a_thought_that_is_not_anthropics_stays_at_home(of: str, state: bytes) -> None:
    asked = asking(user("hi"), assistant(ReasoningPart("hm", state), "Hello."), user("?"))
    blocks = wire(anthropic_body.body(asked, model="m", output_tokens=9))["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["text"], of


def test_results_stand_before_what_a_person_said_meanwhile() -> None:
    asked = asking(user("hi"), called(id="c1"), user("hurry"), answered(id="c1"))
    turns = wire(anthropic_body.body(asked, model="m", output_tokens=9))["messages"]
    assert [block["type"] for block in turns[2]["content"]] == ["tool_result", "text"]


def recorded(provider: str) -> list[Path]:
    return sorted((RECORDINGS / provider).glob("*.sse"))


def served(path: Path) -> dict[str, Any]:
    return {"headers": {"content-type": "text/event-stream"}, "content": path.read_bytes()}


@pytest.mark.parametrize("path", recorded("openai"), ids=lambda path: path.stem)
def test_openais_sdk_reads_our_recordings_as_we_do(path: Path) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, **served(path)))
    client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport), max_retries=0)
    words, thoughts = "", ""
    try:
        stream = client.chat.completions.create(
            model="gpt-4.1", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        for chunk in stream:
            for choice in chunk.choices:
                words += choice.delta.content or choice.delta.refusal or ""
                thoughts += getattr(choice.delta, "reasoning_content", None) or ""
    except openai.APIError:
        assert path.stem == "error"
    else:
        deltas = replay("openai", path.stem)
        assert (text(deltas), thought(deltas)) == (words, thoughts)


@pytest.mark.parametrize("path", recorded("anthropic"), ids=lambda path: path.stem)
def test_anthropics_sdk_reads_our_recordings_as_we_do(path: Path) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, **served(path)))
    client = anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=transport), max_retries=0)
    try:
        with client.messages.stream(
            model="claude-sonnet-5-5", max_tokens=100, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            message = stream.get_final_message()
    except anthropic.APIError:
        assert path.stem == "error"
        return
    deltas = replay("anthropic", path.stem)
    assert text(deltas) == "".join(block.text for block in message.content if block.type == "text")
    assert thought(deltas) == "".join(block.thinking for block in message.content if block.type == "thinking")
    calls = [
        (delta.id, delta.name, json.loads(delta.arguments)) for delta in deltas if isinstance(delta, ToolCall)
    ]
    assert calls == [
        (block.id, block.name, block.input) for block in message.content if block.type == "tool_use"
    ]


@pytest.mark.parametrize("path", recorded("cohere"), ids=lambda path: path.stem)
def test_coheres_sdk_reads_our_recordings_as_we_do(path: Path) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, **served(path)))
    client = cohere.ClientV2(api_key="k", httpx_client=httpx.Client(transport=transport))
    words, kinds = "", []
    for event in client.chat_stream(
        model="command-a-03-2025", messages=[cohere.UserChatMessageV2(content="hi")]
    ):
        kinds.append(event.type)
        if event.type == "content-delta":
            words += event.dict()["delta"]["message"]["content"].get("text") or ""
    assert kinds[-1] == "message-end"
    if path.stem != "error":
        assert text(replay("cohere", path.stem)) == words


def test_requests_of_every_size_stay_json() -> None:
    empty: Request = asking(user(""))
    for body in (
        chat_body.body(empty, model="m"),
        anthropic_body.body(empty, model="m", output_tokens=1),
        cohere_body.body(empty, model="m"),
    ):
        assert wire(body)["model"] == "m"
