"""Token counts where no tokenizer is at hand: an estimate from bytes, always marked as one."""

from __future__ import annotations

from typing import assert_never

from llm_svc.generation import (
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Request,
    TextPart,
    TokenCount,
    ToolCall,
    ToolResult,
)

BYTES_PER_TOKEN = 3.6
TOKENS_PER_MESSAGE = 4
TOKENS_PER_IMAGE = 1_100  # a 1,568 px image at the large providers


def estimate_text(text: str) -> int:
    """About how many tokens the text has."""
    return int(len(text.encode()) / BYTES_PER_TOKEN) + 1 if text else 0


def estimate(request: Request) -> TokenCount:
    """About how many tokens the request's window and tools have."""
    tools = sum(estimate_text(tool.name + tool.description + tool.schema) for tool in request.tools)
    return TokenCount(tokens=tools + sum(map(_of_message, request.messages)), estimated=True)


def _of_message(message: Message) -> int:
    return TOKENS_PER_MESSAGE + sum(map(_of_part, message.parts))


def _of_part(part: Part) -> int:
    match part:
        case TextPart(text) | ReasoningPart(text):
            return estimate_text(text)
        case ImagePart():
            return TOKENS_PER_IMAGE
        case ToolCall():
            return estimate_text(part.name + part.arguments)
        case ToolResult():
            return estimate_text(part.text)
        case _:
            assert_never(part)
