"""A server that speaks Cohere's chat, version 2, on a unix socket; see ChatServer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from llm_svc.providers.script import Act, Ask, End, Say, Think, Wait
from tests.contracts.chat_server import ChatServer, chunk, read_request

_FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR"}


def event(type: str, **fields: object) -> bytes:
    """One event of the stream."""
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


class CohereServer(ChatServer):
    """Answers POST chat with the script."""

    async def stream(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        await chunk(writer, event("message-start", id="m1", delta={"message": empty}))
        text = {"message": {"content": {"type": "text", "text": ""}}}
        await chunk(writer, event("content-start", index=0, delta=text))
        limit, spoken, called, finish = body.get("max_tokens"), 0, 0, "stop"
        for act in self.script.play(read_request(body)):
            if isinstance(act, Wait):
                await asyncio.sleep(act.seconds)
                continue
            if limit is not None and spoken >= limit:
                finish = "length"
                break
            for data in _events(act, called):
                await chunk(writer, data)
            spoken += isinstance(act, Say)
            called += isinstance(act, Ask)
            if isinstance(act, End):
                finish = act.reason.value
        await chunk(writer, event("content-end", index=0))
        tokens = {"input_tokens": 7.0, "output_tokens": float(max(spoken, 1))}
        usage = {"billed_units": {"input_tokens": 5.0, "output_tokens": 1.0}, "tokens": tokens}
        ended = {"finish_reason": _FINISHES["tool_calls" if called else finish], "usage": usage}
        await chunk(writer, event("message-end", delta=ended) + b"data: [DONE]\n\n")


def _events(act: Act, index: int) -> Iterator[bytes]:
    match act:
        case Say(text):
            yield event("content-delta", index=0, delta={"message": {"content": {"text": text}}})
        case Think(text):
            yield event("content-delta", index=0, delta={"message": {"content": {"thinking": text}}})
        case Ask(name=name, arguments=arguments):
            function: dict[str, str] = {"name": name, "arguments": ""}
            call = {"id": f"{name}_{index}", "type": "function", "function": function}
            yield event("tool-call-start", index=index, delta={"message": {"tool_calls": call}})
            for at in range(0, len(arguments), 5):
                piece = {"function": {"arguments": arguments[at : at + 5]}}
                yield event("tool-call-delta", index=index, delta={"message": {"tool_calls": piece}})
            yield event("tool-call-end", index=index)
        case _:
            pass
