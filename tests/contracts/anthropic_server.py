"""A server that speaks Anthropic's Messages API on a unix socket; see ChatServer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from llm_svc.generation import Message, Request, Role, TextPart, Tool, ToolCall, ToolResult
from llm_svc.providers.script import Act, Ask, End, Say, Think, Wait
from tests.contracts.chat_server import ChatServer, chunk

_FINISHES = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def event(type: str, **fields: object) -> bytes:
    """One event of the stream."""
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


class AnthropicServer(ChatServer):
    """Answers POST messages with the script, and messages/count_tokens with a count of words."""

    def whole(self, path: str, body: dict[str, Any]) -> bytes | None:
        if not path.endswith("/count_tokens"):
            return None
        return json.dumps({"input_tokens": len(json.dumps(body["messages"]).split())}).encode()

    async def stream(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        usage = {"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 1}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": usage}
        await chunk(writer, event("message_start", message={**message, "model": body["model"]}))
        await chunk(writer, event("ping"))
        spoken, called, finish, block = 0, 0, "stop", _Blocks()
        for act in self.script.play(read_request(body)):
            if isinstance(act, Wait):
                await asyncio.sleep(act.seconds)
                continue
            if spoken >= body["max_tokens"]:
                finish = "length"
                break
            for data in block.of(act):
                await chunk(writer, data)
            spoken += isinstance(act, Say)
            called += isinstance(act, Ask)
            if isinstance(act, End):
                finish = act.reason.value
        for data in block.closed():
            await chunk(writer, data)
        stop = {"stop_reason": _FINISHES["tool_calls" if called else finish], "stop_sequence": None}
        await chunk(writer, event("message_delta", delta=stop, usage={"output_tokens": max(spoken, 1)}))
        await chunk(writer, event("message_stop"))


class _Blocks:
    """The content block that is open, and its place."""

    def __init__(self) -> None:
        self._kind = ""
        self._index = -1

    def of(self, act: Act) -> Iterator[bytes]:
        match act:
            case Say(text):
                yield from self._into("text", {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            case Think(text):
                yield from self._into("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                yield self._delta({"type": "thinking_delta", "thinking": text})
            case Ask(name=name, arguments=arguments):
                yield from self.closed()
                opened: dict[str, object] = {
                    "type": "tool_use",
                    "id": f"toolu_{self._index + 2}",
                    "name": name,
                    "input": {},
                }
                yield from self._into("tool_use", opened)
                yield self._delta({"type": "input_json_delta", "partial_json": ""})
                for at in range(0, len(arguments), 5):
                    yield self._delta({"type": "input_json_delta", "partial_json": arguments[at : at + 5]})
            case _:
                pass

    def _into(self, kind: str, block: dict[str, object]) -> Iterator[bytes]:
        if kind != self._kind:
            yield from self.closed()
            self._kind, self._index = kind, self._index + 1
            yield event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, object]) -> bytes:
        return event("content_block_delta", index=self._index, delta=delta)

    def closed(self) -> Iterator[bytes]:
        if self._kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": "c2lnbmVk"})
        if self._kind:
            yield event("content_block_stop", index=self._index)
        self._kind = ""


def read_request(body: dict[str, Any]) -> Request:
    """The body as our own request, enough of it for a script to choose by."""
    offered = body.get("tools", []) if body.get("tool_choice", {}).get("type") != "none" else []
    tools = tuple(Tool(name=tool["name"], description="", schema="{}") for tool in offered)
    messages = tuple(_message(message) for message in body["messages"])
    return Request(model=body["model"], messages=messages, tools=tools)


def _message(wire: dict[str, Any]) -> Message:
    blocks = wire["content"]
    results = tuple(
        ToolResult(call_id=block["tool_use_id"], name="", text=block["content"])
        for block in blocks
        if block["type"] == "tool_result"
    )
    calls = tuple(
        ToolCall(id=block["id"], name=block["name"], arguments=json.dumps(block["input"]))
        for block in blocks
        if block["type"] == "tool_use"
    )
    text = tuple(TextPart(block["text"]) for block in blocks if block["type"] == "text")
    role = Role.TOOL if results else Role(wire["role"])
    return Message(role=role, parts=(*results, *text, *calls))
