"""Every provider that ``pydantic-ai`` reaches and that has no adapter of its own: an optional extra.

It is slower by an order of magnitude than the adapters of the hot path, and there for breadth.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llm_svc.errors import RosterInvalid
from llm_svc.generation import Delta, Request, TokenCount
from llm_svc.providers.connection import Server
from llm_svc.providers.provider import Model
from llm_svc.tokens import estimate

if TYPE_CHECKING:
    from pydantic_ai.models import Model as TheirModel


class LongTail:
    """Provider over ``pydantic-ai``, whose names of models are ``provider:model``.

    The library is imported when the first model is asked. ``opened`` are models that need no opening. Raises
    RosterInvalid where the extra is not installed.
    """

    def __init__(self, server: Server, opened: dict[str, TheirModel] | None = None) -> None:
        if find_spec("pydantic_ai") is None:
            raise RosterInvalid(f"server {server.name!r} needs pydantic-ai: install the extra [providers]")
        self._server = server
        self._opened = dict(opened or {})

    @property
    def name(self) -> str:
        """The server's name."""
        return self._server.name

    async def models(self) -> Sequence[Model]:
        """The models that were configured."""
        return self._server.models

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Provider. Raises ProviderFailed where the model's own library is missing."""
        from llm_svc.providers import long_tail_wire as wire

        model = self._opened.get(request.model)
        if model is None:
            model = self._opened[request.model] = wire.opened(request.model, self._server.key)
        async with aclosing(wire.deltas(model, request, self._server.silence_seconds)) as deltas:
            async for delta in deltas:
                yield delta

    async def count(self, request: Request) -> TokenCount:
        """An estimate: few of these providers count."""
        return estimate(request)

    async def close(self) -> None:
        """The library's own pools close with the process."""
        self._opened.clear()
