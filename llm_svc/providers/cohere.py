"""Cohere's chat, version 2."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from llm_svc.generation import Delta, Request, TokenCount
from llm_svc.providers import cohere_body, connection
from llm_svc.providers.cohere_stream import Decoder
from llm_svc.providers.connection import Server
from llm_svc.providers.provider import Model
from llm_svc.tokens import estimate

URL = "https://api.cohere.com/v2/"


class Cohere:
    """Provider over one server that speaks Cohere's chat."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pool = connection.pool(server)

    @property
    def name(self) -> str:
        """The server's name."""
        return self._server.name

    async def models(self) -> Sequence[Model]:
        """The models that were configured."""
        return self._server.models

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Provider."""
        asked = msgspec.json.encode(cohere_body.body(request, model=request.model))
        patience = self._server.patience_seconds
        stream = connection.deltas(self._pool, "chat", asked, Decoder(request), patience=patience)
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                yield delta

    async def count(self, request: Request) -> TokenCount:
        """An estimate: its tokenizer takes text, not a conversation with tools."""
        return estimate(request)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
