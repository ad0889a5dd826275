"""A Request as the body of a streamed chat completion."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, assert_never

import msgspec

from llm_svc.generation import (
    ImagePart,
    Message,
    ReasoningPart,
    Request,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    shown,
)

JsonValue: TypeAlias = (
    object  # what msgspec encodes: str, int, float, bool, None, Raw, list and dict of these
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How a server wants to be asked: ``limit`` is its name for the most tokens to write."""

    limit: str = "max_tokens"


COMPATIBLE = Dialect()
OFFICIAL = Dialect(limit="max_completion_tokens")


def body(request: Request, *, model: str, dialect: Dialect = COMPATIBLE) -> dict[str, JsonValue]:
    """The request as the body of a streamed chat completion for ``model``."""
    fields: dict[str, JsonValue] = {
        "model": model,
        "messages": [wire for message in request.messages for wire in _message(message)],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools and request.parameters.tool_choice is not ToolChoice.NONE:
        fields["tools"] = [_tool(tool) for tool in request.tools]
        fields["tool_choice"] = request.parameters.tool_choice.value
    return fields | sampling(request, dialect)


def sampling(request: Request, dialect: Dialect = COMPATIBLE) -> dict[str, JsonValue]:
    """The sampling parameters that were given, under their wire names."""
    parameters = request.parameters
    given: dict[str, JsonValue | None] = {
        "temperature": parameters.temperature,
        dialect.limit: parameters.max_output_tokens,
        "top_p": parameters.top_p,
        "stop": list(parameters.stop) or None,
        "seed": parameters.seed,
        "response_format": _response_format(parameters.json_schema),
    }
    return {name: value for name, value in given.items() if value is not None}


def _response_format(schema: str | None) -> JsonValue | None:
    if schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": _raw(schema), "strict": True}}


def _raw(json: str) -> msgspec.Raw:
    return msgspec.Raw(json.encode())


def _tool(tool: Tool) -> JsonValue:
    function = {"name": tool.name, "description": tool.description, "parameters": _raw(tool.schema)}
    return {"type": "function", "function": function}


def _message(message: Message) -> Iterator[dict[str, JsonValue]]:
    match message.parts:
        case (TextPart() as words,):  # nearly every message
            role = Role.USER if message.role is Role.TOOL else message.role
            yield {"role": role.value, "content": shown(words)}
        case _:
            yield from _mixed(message)


def _mixed(message: Message) -> Iterator[dict[str, JsonValue]]:
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.call_id, "content": result.text}
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCall)]
    content = _content(message)
    if calls:
        yield {"role": "assistant", "content": content or None, "tool_calls": calls}
    elif content or not results:
        role = Role.USER if message.role is Role.TOOL else message.role
        yield {"role": role.value, "content": content}


def _call(call: ToolCall) -> JsonValue:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _content(message: Message) -> str | list[JsonValue]:
    if not any(isinstance(part, ImagePart) for part in message.parts):
        return message.shown
    pieces: list[JsonValue] = []
    for part in message.parts:
        match part:
            case TextPart():
                pieces.append({"type": "text", "text": shown(part)})
            case ImagePart(data, mime):
                url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
                pieces.append({"type": "image_url", "image_url": {"url": url}})
            case ToolCall() | ToolResult() | ReasoningPart():
                pass  # these travel outside the content
            case _:
                assert_never(part)
    return pieces
