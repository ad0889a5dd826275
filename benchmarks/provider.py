"""A fast OpenAI-compatible provider, in a process of its own, that never is the limit.

It answers POST …/chat/completions with a stream whose shape the last message asks for: "100 tokens, 20 ms apart", or
"2 calls of calculate with expression #+1", where # is the number of each call; when the last message is a result, it
answers in words. Serving bytes straight from an asyncio protocol keeps its own share of the machine small.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import ClassVar, cast

import uvloop

_ASKED = re.compile(r"(\d+) tokens(?:, (\d+) ms apart)?")
_CALLS = re.compile(r"(\d+) calls of (\w+)(?: with (\w+) ([\w#+]+))?")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_MODELS = json.dumps({"object": "list", "data": [{"id": "bench", "object": "model"}]}).encode()


def _frame(payload: dict[str, object]) -> bytes:
    data = b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def _chunk(delta: dict[str, object], finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": choices}
    return _frame(body | ({"usage": usage} if usage else {}))


TOKEN = _chunk({"content": "token "})


def _called(count: int, name: str, key: str | None, value: str) -> bytes:
    calls = []
    for number in range(count):
        arguments = json.dumps({key: value.replace("#", str(number))} if key else {})
        function = {"name": name, "arguments": arguments}
        calls.append({"index": number, "id": f"call_{number}", "type": "function", "function": function})
    return _chunk({"tool_calls": calls})


def _ending(count: int, finish: str = "stop") -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": count + 10}
    return _chunk({}, finish=finish) + _chunk({}, usage=usage) + b"e\r\ndata: [DONE]\n\n\r\n" + b"0\r\n\r\n"


class Provider(asyncio.Protocol):
    """One connection. `left` is when clients went away in the middle of an answer, by the machine's steady clock."""

    left: ClassVar[list[float]] = []

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the stream that runs."""
        if self._task and not self._task.done():
            self._task.cancel()
            self.left.append(time.perf_counter())

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        size = int(length[1]) if length else 0
        if not separator or len(rest) < size:
            return
        self._received = rest[size:]
        if head.startswith(b"GET"):
            body = json.dumps(self.left).encode() if b"/left" in head.split(b"\r\n")[0] else _MODELS
            self._write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            return
        self._task = asyncio.ensure_future(self._stream(json.loads(rest[:size])))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _stream(self, body: dict[str, object]) -> None:
        last: dict[str, object] = body["messages"][-1]  # type: ignore[index]
        said = json.dumps(last)
        if last["role"] == "user" and (calls := _CALLS.search(said)):
            self._write(_HEAD + _called(int(calls[1]), *calls.groups()[1:]) + _ending(1, "tool_calls"))
            return
        asked = _ASKED.search(said)
        count, pause = (int(asked[1]), int(asked[2] or 0)) if asked else (5, 0)
        self._write(_HEAD)
        if pause:
            for _ in range(count):
                self._write(TOKEN)
                await asyncio.sleep(pause / 1000)
        else:
            for start in range(0, count, 50):
                await self._writable.wait()
                self._write(TOKEN * min(50, count - start))
                await asyncio.sleep(0)
        self._write(_ending(count))


async def _main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
