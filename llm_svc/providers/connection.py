"""One pool of connections to one provider, and a request whose answer is a stream of events."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import httpx

from llm_svc.errors import ProviderFailed, ProviderGarbage, ProviderTimeout
from llm_svc.generation import Delta
from llm_svc.providers.provider import Model
from llm_svc.providers.refusal import refusal
from llm_svc.transport import KEPT, Transport

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
PATIENCE_SECONDS = 180.0  # bytes that say nothing do not prolong it
STEP_SECONDS = 900.0
END_SECONDS = 0.1  # a body that does not end with its last word costs its connection
MAX_REFUSAL_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 << 20  # 131,072 tokens with 500 bytes of wire around each
_IDLE_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Where a provider is. ``models`` are its models by the id they have there.

    ``uds`` is a unix socket to reach it through. Silence is the longest pause between two bytes, patience
    the longest one between two words, both in seconds.
    """

    name: str
    base_url: str
    models: tuple[Model, ...]
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    uds: str | None = None
    silence_seconds: float = SILENCE_SECONDS
    patience_seconds: float = PATIENCE_SECONDS

    def __repr__(self) -> str:
        """The name only: a key has no place in a log."""
        return f"Server({self.name!r})"


class EventDecoder(Protocol):
    """The bytes of one answer, without I/O."""

    done: bool

    @property
    def progress(self) -> int:
        """Grows with each word, and with each fragment of a call."""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas these bytes complete, in order; none after ``done``."""

    def end(self) -> list[Delta]:
        """The stream is over: what remains to be said. Raises ProviderFailed if it was cut."""


def pool(server: Server) -> httpx.AsyncClient:
    """A pool that follows no redirect, reads no environment and keeps its connections.

    It speaks HTTP/1.1, where closing an answer closes its connection: the provider stops writing, and charging.
    """
    return client(
        server.base_url,
        key=server.key,
        headers=server.headers,
        uds=server.uds,
        silence=server.silence_seconds,
    )


def client(
    base_url: str,
    *,
    key: str = "",
    headers: Mapping[str, str] | None = None,
    uds: str | None = None,
    silence: float,
) -> httpx.AsyncClient:
    """The same for one base URL; ``silence`` is in seconds."""
    tls = ssl.create_default_context() if base_url.startswith("https") else None
    return httpx.AsyncClient(
        base_url=base_url,
        headers={**(headers or {}), **({"authorization": f"Bearer {key}"} if key else {})},
        timeout=httpx.Timeout(silence, connect=CONNECT_SECONDS),
        transport=Transport(tls=tls, uds=uds, idle_seconds=_IDLE_SECONDS),
        trust_env=False,
    )


async def deltas(
    connections: httpx.AsyncClient,
    path: str,
    asked: bytes,
    decoder: EventDecoder,
    *,
    patience: float = PATIENCE_SECONDS,
) -> AsyncGenerator[Delta, None]:
    """POST a request and give the deltas of its answer; the response is closed with the generator."""
    clock = asyncio.get_running_loop()
    began = heard = clock.time()
    size = said = 0
    async with _posted(connections, path, asked) as response:
        body = response.aiter_bytes()
        async for data in body:
            size += len(data)
            if size > MAX_BODY_BYTES:
                raise ProviderGarbage
            now = clock.time()
            if now - heard > patience or now - began > STEP_SECONDS:
                raise ProviderTimeout
            for delta in decoder.feed(data):
                yield delta
            if decoder.progress > said:
                heard, said = clock.time(), decoder.progress
            if decoder.done:
                break
        for delta in decoder.end():
            yield delta
        await _read_out(body)


async def answer(connections: httpx.AsyncClient, path: str, asked: bytes) -> bytes:
    """POST a request and give its whole answer, which is short."""
    async with _posted(connections, path, asked) as response:
        return await _short_body(response)


@asynccontextmanager
async def _posted(connections: httpx.AsyncClient, path: str, asked: bytes) -> AsyncIterator[httpx.Response]:
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    try:
        response = await _sent(
            connections, connections.build_request("POST", path, content=asked, headers=headers)
        )
        async with aclosing(response):
            if response.status_code != httpx.codes.OK:
                wait = retry_after(response.headers.get("retry-after", ""))
                raise refusal(response.status_code, await _short_body(response), wait)
            yield response
    except httpx.TimeoutException as slow:
        raise ProviderTimeout from slow
    except httpx.DecodingError as broken:
        raise ProviderGarbage from broken
    except (httpx.HTTPError, httpx.StreamError) as broken:
        raise ProviderFailed from broken


async def _sent(connections: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The head of the answer; sent again at once where a kept connection turns out to be closed.

    A server may close a connection that it kept at any moment, also the one in which the next request is on its way
    (RFC 9112, section 9.5; llama.cpp's does so after one stream of ten). Nothing of an answer has come then. Each try
    takes one dead connection out of the pool, and a fresh one that fails is a failure.
    """
    while True:
        request.extensions[KEPT] = kept = list[bool]()
        try:
            return await connections.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if not kept:
                raise


def retry_after(header: str) -> timedelta | None:
    """The wait that a header names in seconds; None for a date, for nonsense and for none."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return timedelta(seconds=min(seconds, _LONGEST_WAIT_SECONDS)) if seconds >= 0 else None


async def _read_out(body: AsyncIterator[bytes]) -> None:
    """Take the end of a body that has said all: only then its connection serves the next request."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in body:
                pass


async def _short_body(response: httpx.Response) -> bytes:
    taken = b""
    async for data in response.aiter_bytes():
        taken += data
        if len(taken) > MAX_REFUSAL_BYTES:
            break
    return taken
