"""The world outside, on this machine: one HTTP server that answers by path, or misbehaves on request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

REPLIES = Path(__file__).parents[2] / "recordings" / "outside"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Outside:
    """What the server saw, and what it does. `fault` names how it misbehaves: slow, garbage, huge, cut, bomb."""

    url: str = ""
    answers: dict[str, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    fault: str = ""
    asked: list[Asked] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open[writer] = asyncio.current_task()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                asked = await _request(reader)
                self.asked.append(asked)
                if self.fault:
                    await self._misbehave(reader, writer)
                    break
                answer = self._answer(asked.path)
                writer.write(_raw(answer(asked) if callable(answer) else answer))
                await writer.drain()
        writer.close()

    def _answer(self, path: str) -> Answer | Callable[[Asked], Answer]:
        """The answer of that path, else that of a folder above it."""
        folders = [each for each in self.answers if each.endswith("/") and path.startswith(each)]
        return self.answers.get(path) or self.answers.get(max(folders, default=""), Answer(status=404))

    async def _misbehave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self.fault:
            case "slow":
                self.waiting.set()
                await reader.read()  # until the other side hangs up
                self.hung_up.set()
            case "garbage":
                writer.write(b"\x16\x03\x01 what is this\r\n\r\n")
            case "huge":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
                while not writer.is_closing():
                    writer.write(piece)
                    await writer.drain()
            case "cut":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()


@asynccontextmanager
async def outside(**answers: Answer | Callable[[Asked], Answer]) -> AsyncIterator[Outside]:
    """The server, until the end of the block."""
    there = Outside(answers=dict(answers))
    server = await asyncio.start_server(there.serve, "127.0.0.1", 0)
    there.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield there
    finally:
        server.close()
        for writer in there.open:
            writer.close()
        await asyncio.gather(*filter(None, there.open.values()), return_exceptions=True)


def recorded(name: str) -> Answer:
    """An answer in a service's own form, from tests/recordings/outside."""
    kind = "text/html; charset=utf-8" if name.endswith(".html") else "application/json"
    return Answer(body=(REPLIES / name).read_bytes(), headers={"Content-Type": kind})


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Asked(method=method, path=parts.path, query=query, headers=headers, body=body)


def _raw(answer: Answer) -> bytes:
    headers = {"Content-Length": str(len(answer.body)), **answer.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} X\r\n{lines}\r\n".encode() + answer.body
