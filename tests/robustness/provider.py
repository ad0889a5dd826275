"""A model server for whole meshes: real HTTP on the loopback address, streamed answers, every call counted.

"talk without end" is answered a word each 20 ms until its client goes away.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

WORDS = ("Yes, ", "I ", "am ", "here.")
TOKENS = 7 + len(WORDS)
ENDLESS = "talk without end"
PACE = 0.02  # seconds between two words of an answer without end


class Provider:
    """Answers each call with the same few words; counts those whose last message begins with `counts`."""

    def __init__(self, counts: str = "") -> None:
        self._counts = counts
        self.calls = 0
        self.left: asyncio.Queue[float] = asyncio.Queue()
        """When the client of an answer without end went away, on the steady clock."""
        self.port = 0

    @property
    def settings(self) -> dict[str, str]:
        """What llm_svc must be told."""
        return {
            "LLM_SCRIPT": "",
            "LLM_OPENAI_BASE_URL": f"http://127.0.0.1:{self.port}/v1",
            "LLM_OPENAI_MODELS": "counted",
            "LLM_DEFAULT_MODEL": "counted",
            "LLM_OPENAI_LOCAL": "true",
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Provider]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                body = json.loads(await reader.readexactly(length))
                said = str(body["messages"][-1]["content"])
                self.calls += said.startswith(self._counts)  # what finds a title quotes the message
                if said.startswith(ENDLESS):
                    await self._talk(reader, writer)
                    return
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError, StopIteration):
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        gone = asyncio.ensure_future(reader.read())  # it has asked for all that it asks for
        gone.add_done_callback(lambda _: self.left.put_nowait(time.monotonic()))
        while not gone.done():
            _word(writer, "on ")
            await asyncio.wait({gone}, timeout=PACE)
        gone.exception()  # a reset is a client that went away

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        for word in WORDS:
            _word(writer, word)
        _chunk(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        _chunk(writer, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(WORDS)}})
        data = b"data: [DONE]\n\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")
        await writer.drain()


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _word(writer: asyncio.StreamWriter, word: str) -> None:
    _chunk(writer, {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})


def _chunk(writer: asyncio.StreamWriter, value: object) -> None:
    data = b"data: " + json.dumps(value).encode() + b"\n\n"
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
