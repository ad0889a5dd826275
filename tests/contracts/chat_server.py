"""A chat-completions server on a unix socket: real HTTP, the wire's own form, and faults on demand.

What it answers is a script of the scripted model, so one suite can ask every provider the same. Faults that
only a wire can have (a cut, garbage, a status) are asked for by `fault`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_svc.generation import Message, Request, Role, TextPart, Tool, ToolCall, ToolResult
from llm_svc.providers.script import Act, Ask, End, Fail, Report, Say, Script, Think, Wait


@dataclass(kw_only=True, slots=True)
class Fault:
    """What goes wrong: an HTTP status with a body, or raw bytes in the stream, then a cut."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: tuple[bytes, ...] = ()
    pause: float = 0.0
    silent: bool = False


class ChatServer:
    """The server; `asked` records every body, `gone` is set when a client left before its end.

    To the next `hang_ups` requests it closes the connection without a byte.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.fault: Fault | None = None
        self.hang_ups = 0
        self.asked: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.paths: list[str] = []
        self.connections = 0
        self.gone = asyncio.Event()

    @asynccontextmanager
    async def at(self, socket: Path) -> AsyncIterator[None]:
        """Serve while the block runs."""
        server = await asyncio.start_unix_server(self._connection, socket)
        try:
            yield
        finally:
            server.close()

    @asynccontextmanager
    async def on_a_port(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Serve on a free port of this machine; the address up to the port."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=tls)
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = _headers(head)
                self.authorizations.append(headers.get("authorization", ""))
                body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
                self.asked.append(body)
                self.paths.append(head.split(b" ", 2)[1].decode())
                if self.hang_ups:
                    self.hang_ups -= 1
                    return
                if (whole := self.whole(self.paths[-1], body)) is not None and self.fault is None:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(whole), whole))
                    await writer.drain()
                    continue
                await self._answer(body, writer)
        except (asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except (ConnectionError, BrokenPipeError):
            self.gone.set()
        finally:
            writer.close()

    def whole(self, path: str, body: dict[str, Any]) -> bytes | None:
        """The answer of a call that is no stream; None for one that is."""
        return None

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        fault = self.fault or Fault()
        if fault.status != 200:
            extra = "".join(f"{name}: {value}\r\n" for name, value in fault.headers.items())
            writer.write(
                f"HTTP/1.1 {fault.status} X\r\ncontent-length: {len(fault.body)}\r\n{extra}\r\n".encode()
            )
            writer.write(fault.body)
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        await writer.drain()
        if fault.silent:
            await asyncio.Event().wait()
        if fault.raw:
            for piece in fault.raw:
                await chunk(writer, piece)
                if fault.pause:
                    await asyncio.sleep(fault.pause)
            raise ConnectionAbortedError
        await self.stream(body, writer)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def stream(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """The answer in the wire's own form; another wire overrides it."""
        limit, spoken, called, finish = body.get("max_tokens"), 0, 0, "stop"
        for act in self.script.play(read_request(body)):
            if isinstance(act, Wait):
                await asyncio.sleep(act.seconds)
                continue
            if limit is not None and spoken >= limit:
                finish = "length"
                break
            for delta in _deltas(act, called):
                await chunk(writer, sse({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
            spoken += isinstance(act, Say)
            called += isinstance(act, Ask)
            if isinstance(act, End):
                finish = act.reason.value
        finish = "tool_calls" if called else finish
        await chunk(writer, sse({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}))
        usage = {
            "prompt_tokens": 7,
            "completion_tokens": spoken,
            "prompt_tokens_details": {"cached_tokens": 3},
        }
        await chunk(writer, sse({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")


def sse(value: object) -> bytes:
    """One event of the stream."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def read_request(body: dict[str, Any]) -> Request:
    """The body as our own request, enough of it for a script to choose by."""
    tools = tuple(
        Tool(name=t["function"]["name"], description="", schema="{}") for t in body.get("tools", [])
    )
    return Request(model=body["model"], messages=tuple(map(_message, body["messages"])), tools=tools)


def _message(wire: dict[str, Any]) -> Message:
    if wire["role"] == "tool":
        result = ToolResult(call_id=wire["tool_call_id"], name="", text=wire["content"])
        return Message(role=Role.TOOL, parts=(result,))
    calls = tuple(
        ToolCall(id=c["id"], name=c["function"]["name"], arguments=c["function"]["arguments"])
        for c in wire.get("tool_calls") or ()
    )
    text = (TextPart(wire["content"]),) if isinstance(wire.get("content"), str) else ()
    return Message(role=Role(wire["role"]), parts=(*text, *calls))


def _deltas(act: Act, place: int) -> Iterator[dict[str, Any]]:
    match act:
        case Say(text):
            yield {"content": text}
        case Think(text):
            yield {"reasoning_content": text}
        case Ask(name=name, arguments=arguments):
            yield {"tool_calls": [{"index": place, "id": f"srv_{place}", "function": {"name": name}}]}
            for at in range(0, len(arguments), 5):  # fragments, as the real ones come
                yield {"tool_calls": [{"index": place, "function": {"arguments": arguments[at : at + 5]}}]}
        case Fail(reason):
            raise ConnectionAbortedError(reason)
        case End() | Report() | Wait():
            return


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    """One piece of a chunked body."""
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()
