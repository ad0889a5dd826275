"""Any server that speaks OpenAI's chat completions, by base URL and key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import httpx
import msgspec

from llm_svc.errors import ProviderFailed, ProviderGarbage, ProviderTimeout
from llm_svc.generation import Delta, Request, TokenCount
from llm_svc.providers import chat_body, chat_stream
from llm_svc.providers.chat_refusal import refusal
from llm_svc.providers.provider import Model
from llm_svc.tokens import estimate

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
END_SECONDS = 0.1  # a body that does not end with its last word costs its connection
MAX_REFUSAL_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """Where an OpenAI-compatible server is: its base URL ends before ``/chat/completions``.

    ``models`` are its models by the id they have there. ``uds`` is a unix socket to reach it through.
    """

    name: str
    base_url: str
    models: tuple[Model, ...]
    key: str = ""
    uds: str | None = None
    silence_seconds: float = SILENCE_SECONDS

    def __repr__(self) -> str:
        """The name only: a key has no place in a log."""
        return f"Server({self.name!r})"


class OpenAI:
    """Provider over one server, with one connection pool."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client = client(server.base_url, key=server.key, uds=server.uds, silence=server.silence_seconds)

    @property
    def name(self) -> str:
        """The server's name."""
        return self._server.name

    async def models(self) -> Sequence[Model]:
        """The models named in the settings."""
        return self._server.models

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Provider."""
        asked = msgspec.json.encode(chat_body.body(request, model=request.model))
        async with aclosing(deltas(self._client, "chat/completions", asked, request)) as stream:
            async for delta in stream:
                yield delta

    async def count(self, request: Request) -> TokenCount:
        """An estimate: the wire form has no call for it."""
        return estimate(request)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def client(base_url: str, *, key: str = "", uds: str | None = None, silence: float) -> httpx.AsyncClient:
    """A pool that follows no redirect, reads no environment and waits ``silence`` seconds between bytes."""
    verify: ssl.SSLContext | bool = ssl.create_default_context() if base_url.startswith("https") else False
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(silence, connect=CONNECT_SECONDS),
        transport=httpx.AsyncHTTPTransport(uds=uds, http2=base_url.startswith("https"), verify=verify),
        trust_env=False,
    )


async def deltas(
    pool: httpx.AsyncClient, path: str, asked: bytes, request: Request
) -> AsyncGenerator[Delta, None]:
    """POST a chat completion and give its deltas; the response is closed with the generator."""
    async with _posted(pool, path, asked) as response:
        decoder = chat_stream.Decoder(request)
        body = response.aiter_bytes()
        async for data in body:
            for delta in decoder.feed(data):
                yield delta
            if decoder.done:
                break
        for delta in decoder.end():
            yield delta
        await _read_out(body)


@asynccontextmanager
async def _posted(pool: httpx.AsyncClient, path: str, asked: bytes) -> AsyncIterator[httpx.Response]:
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    try:
        async with pool.stream("POST", path, content=asked, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise refusal(response.status_code, await _refusal_body(response))
            yield response
    except httpx.TimeoutException as slow:
        raise ProviderTimeout from slow
    except httpx.DecodingError as broken:
        raise ProviderGarbage from broken
    except httpx.HTTPError as broken:
        raise ProviderFailed from broken


async def _read_out(body: AsyncIterator[bytes]) -> None:
    """Take the end of a body that has said all: only then its connection serves the next request."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in body:
                pass


async def _refusal_body(response: httpx.Response) -> bytes:
    answer = b""
    async for data in response.aiter_bytes():
        answer += data
        if len(answer) > MAX_REFUSAL_BYTES:
            break
    return answer
