"""A Request as the body of Cohere's chat, version 2."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgspec

from llm_svc.generation import (
    ImagePart,
    Message,
    Request,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    shown,
)


def body(request: Request, *, model: str) -> dict[str, object]:
    """The request as the body of a streamed chat."""
    parameters = request.parameters
    fields: dict[str, object] = {
        "model": model,
        "messages": [wire for message in request.messages for wire in _message(message)],
        "stream": True,
    }
    if request.tools and parameters.tool_choice is not ToolChoice.NONE:
        fields["tools"] = [_tool(tool) for tool in request.tools]
        if parameters.tool_choice is ToolChoice.REQUIRED:
            fields["tool_choice"] = "REQUIRED"
    given: dict[str, object | None] = {
        "temperature": parameters.temperature,
        "max_tokens": parameters.max_output_tokens,
        "p": parameters.top_p,
        "stop_sequences": list(parameters.stop) or None,
        "seed": parameters.seed,
        "response_format": _response_format(parameters.json_schema),
    }
    return fields | {name: value for name, value in given.items() if value is not None}


def _response_format(schema: str | None) -> object | None:
    if schema is None:
        return None
    return {"type": "json_object", "json_schema": msgspec.Raw(schema.encode())}


def _tool(tool: Tool) -> object:
    parameters = msgspec.Raw(tool.schema.encode())
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _message(message: Message) -> Iterator[dict[str, object]]:
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCall)]
    content = _content(message)
    if calls:
        said = {"content": content} if content else {}
        yield {"role": "assistant", "tool_calls": calls, **said}
    elif content:
        role = Role.USER if message.role is Role.TOOL else message.role
        yield {"role": role.value, "content": content}


def _call(call: ToolCall) -> object:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _content(message: Message) -> str | list[object]:
    if not any(isinstance(part, ImagePart) for part in message.parts):
        return message.shown
    pieces: list[object] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            pieces.append({"type": "text", "text": shown(part)})
        elif isinstance(part, ImagePart):
            url = f"data:{part.mime};base64,{base64.b64encode(part.data).decode()}"
            pieces.append({"type": "image_url", "image_url": {"url": url}})
    return pieces
