"""OpenAI, and any server that speaks its chat completions, by base URL and key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import httpx
import msgspec

from llm_svc.generation import Delta, Request, TokenCount
from llm_svc.providers import chat_body, chat_stream, connection
from llm_svc.providers.connection import Server
from llm_svc.providers.provider import Model
from llm_svc.tokens import estimate

URL = "https://api.openai.com/v1/"


class OpenAI:
    """Provider over one server. ``dialect`` is how the server wants to be asked."""

    def __init__(self, server: Server, dialect: chat_body.Dialect = chat_body.COMPATIBLE) -> None:
        self._server = server
        self._dialect = dialect
        self._pool = connection.pool(server)
        self._efforts = {model.id: model.tools_effort for model in server.models}

    @property
    def name(self) -> str:
        """The server's name."""
        return self._server.name

    async def models(self) -> Sequence[Model]:
        """The models that were configured."""
        return self._server.models

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Provider."""
        body = chat_body.body(request, model=request.model, dialect=self._dialect)
        if "tools" in body and (effort := self._efforts.get(request.model)):
            body["reasoning_effort"] = effort
        asked = msgspec.json.encode(body)
        patience = self._server.patience_seconds
        async with aclosing(
            deltas(self._pool, "chat/completions", asked, request, patience=patience)
        ) as stream:
            async for delta in stream:
                yield delta

    async def count(self, request: Request) -> TokenCount:
        """An estimate: the wire form has no call for it."""
        return estimate(request)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def deltas(
    pool: httpx.AsyncClient,
    path: str,
    asked: bytes,
    request: Request,
    *,
    patience: float = connection.STEP_SECONDS,
) -> AsyncGenerator[Delta, None]:
    """POST a chat completion and give its deltas; the response is closed with the generator."""
    return connection.deltas(pool, path, asked, chat_stream.Decoder(request), patience=patience)
