"""A Request as the body of Anthropic's Messages API."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

import msgspec

from llm_svc.generation import (
    ImagePart,
    Message,
    Part,
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

Block = dict[str, object]
_CHOICES = {ToolChoice.AUTO: "auto", ToolChoice.NONE: "none", ToolChoice.REQUIRED: "any"}


class Thought(msgspec.Struct, omit_defaults=True, tag="anthropic", tag_field="of"):
    """What must go back with a thought: its signature, or the whole of it where it was redacted."""

    signature: str = ""
    redacted: str = ""


_decode_thought = msgspec.json.Decoder(Thought).decode
encode_thought = msgspec.json.encode


def body(request: Request, *, model: str, output_tokens: int) -> dict[str, object]:
    """The request as the body of a streamed message; ``output_tokens`` where the request sets no limit.

    The prefix up to the newest block is cached, so that the next step reads it for a fraction of its price.
    """
    parameters = request.parameters
    fields = asked(request, model=model)
    fields["max_tokens"] = parameters.max_output_tokens or output_tokens
    fields["stream"] = True
    fields["cache_control"] = {"type": "ephemeral"}
    if parameters.stop:
        fields["stop_sequences"] = list(parameters.stop)
    if parameters.json_schema is not None:
        schema = msgspec.Raw(parameters.json_schema.encode())
        fields["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return fields


def asked(request: Request, *, model: str) -> dict[str, object]:
    """What the model is shown: the part of the body that counting needs too."""
    fields: dict[str, object] = {"model": model, "messages": list(_turns(request.messages))}
    system = "\n\n".join(m.shown for m in request.messages if m.role is Role.SYSTEM)
    if system:
        fields["system"] = system
    if request.tools:  # also when none may be asked for: earlier calls must be of known tools
        fields["tools"] = [_tool(tool) for tool in request.tools]
        fields["tool_choice"] = {"type": _CHOICES[request.parameters.tool_choice]}
    return fields


def _tool(tool: Tool) -> Block:
    schema = msgspec.Raw(tool.schema.encode())
    return {"name": tool.name, "description": tool.description, "input_schema": schema}


def _turns(messages: Iterable[Message]) -> Iterator[Block]:
    """Turns of user and assistant one after another, as the API wants them."""
    role, blocks = "", list[Block]()
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        speaker = "assistant" if message.role is Role.ASSISTANT else "user"
        if speaker != role and blocks:
            yield _turn(role, blocks)
            blocks = []
        role = speaker
        blocks += _blocks(message.parts)
    if blocks:
        yield _turn(role, blocks)


def _turn(role: str, blocks: list[Block]) -> Block:
    if role == "user":
        blocks = sorted(blocks, key=lambda block: block["type"] != "tool_result")
    return {"role": role, "content": blocks}


def _blocks(parts: Iterable[Part]) -> Iterator[Block]:
    thought = ""
    for part in parts:
        match part:
            case TextPart(text):
                if text.strip():  # an empty one is refused
                    yield {"type": "text", "text": shown(part)}
            case ReasoningPart(text, state):
                thought += text
                if state:
                    yield from _thinking(thought, state)
                    thought = ""
            case ImagePart(data, mime):
                source = {"type": "base64", "media_type": mime, "data": base64.b64encode(data).decode()}
                yield {"type": "image", "source": source}
            case ToolCall():
                yield {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part.arguments)}
            case ToolResult():
                yield _result(part)


def _thinking(text: str, state: bytes) -> Iterator[Block]:
    """The thought as it came; one of another provider, or without its signature, is left out."""
    try:
        thought = _decode_thought(state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if thought.redacted:
        yield {"type": "redacted_thinking", "data": thought.redacted}
    elif thought.signature:
        yield {"type": "thinking", "thinking": text, "signature": thought.signature}


def _input(arguments: str) -> object:
    """The arguments, which must be an object; what the model did not write as one goes back as text."""
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decoded = None
    return msgspec.Raw(arguments.encode()) if isinstance(decoded, dict) else {"text": arguments}


def _result(result: ToolResult) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": result.call_id, "content": result.text}
    return block | {"is_error": True} if result.failed else block
