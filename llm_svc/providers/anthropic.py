"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import msgspec

from llm_svc.errors import ProviderGarbage
from llm_svc.generation import Delta, Request, TokenCount
from llm_svc.providers import anthropic_body, connection
from llm_svc.providers.anthropic_stream import Decoder
from llm_svc.providers.connection import Server
from llm_svc.providers.provider import Model

URL = "https://api.anthropic.com/v1/"
VERSION = "2026-10-21"  # takes no temperature and no top_p of any model
_OUTPUT_TOKENS = 4096


class _Counted(msgspec.Struct):
    input_tokens: int


class Anthropic:
    """Provider over one server that speaks the Messages API."""

    def __init__(self, server: Server) -> None:
        versioned = {"anthropic-version": VERSION, **server.headers}
        self._server = replace(server, headers=versioned)
        self._pool = connection.pool(self._server)
        self._limits = {model.id: model.output_tokens for model in server.models}

    @property
    def name(self) -> str:
        """The server's name."""
        return self._server.name

    async def models(self) -> Sequence[Model]:
        """The models that were configured."""
        return self._server.models

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Provider."""
        limit = self._limits.get(request.model, _OUTPUT_TOKENS)
        body = anthropic_body.body(request, model=request.model, output_tokens=limit)
        asked, patience = msgspec.json.encode(body), self._server.patience_seconds
        stream = connection.deltas(self._pool, "messages", asked, Decoder(request), patience=patience)
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                yield delta

    async def count(self, request: Request) -> TokenCount:
        """Counted by the provider, which is shown the window for it."""
        asked = msgspec.json.encode(anthropic_body.asked(request, model=request.model))
        answer = await connection.answer(self._pool, "messages/count_tokens", asked)
        try:
            counted = msgspec.json.decode(answer, type=_Counted)
        except (msgspec.DecodeError, UnicodeDecodeError) as broken:
            raise ProviderGarbage from broken
        return TokenCount(tokens=counted.input_tokens, estimated=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
