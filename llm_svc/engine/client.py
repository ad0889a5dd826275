"""Calls to the engine's socket, beyond the chat stream: render, complete, count, and a slot's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
import msgspec

from llm_svc.errors import (
    ContextTooLong,
    EngineCrashed,
    ParameterUnsupported,
    ProviderFailed,
    ProviderGarbage,
    ProviderTimeout,
)
from llm_svc.generation import Usage
from llm_svc.transport import Transport

SILENCE_SECONDS = 120.0  # the engine sends a ping every 30 s while it reads a long prompt
CONNECT_SECONDS = 5.0
T = TypeVar("T")


class _Rendered(msgspec.Struct):
    prompt: str


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class _Completed(msgspec.Struct):
    content: str
    timings: _Timings


class _Saved(msgspec.Struct):
    filename: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """Text that continues a prompt, and what it took."""

    text: str
    usage: Usage


class EngineClient:
    """One connection pool to one engine."""

    def __init__(self, socket: str) -> None:
        # The engine's server closes a connection after an answer without saying so: one that was kept may be gone when
        # the next request is on its way (2 of 75 short answers). Connecting to a socket of this machine costs nothing.
        self.pool = httpx.AsyncClient(
            base_url="http://engine/",
            transport=Transport(tls=None, uds=socket, idle_seconds=0),
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,
        )

    async def render(self, messages: Sequence[Mapping[str, object]]) -> str:
        """The prompt that the model's own template makes of the messages."""
        return (await self._post("apply-template", {"messages": messages}, _Rendered)).prompt

    async def complete(
        self, prompt: str, *, tokens: int, grammar: str | None = None, schema: str | None = None
    ) -> Completion:
        """The likeliest continuation, held to a grammar or a JSON schema.

        Raises ParameterUnsupported when the engine cannot turn the schema into a grammar.
        """
        asked: dict[str, object] = {"prompt": prompt, "n_predict": tokens, "temperature": 0.0}
        if grammar is not None:
            asked["grammar"] = grammar
        if schema is not None:
            asked["json_schema"] = msgspec.Raw(schema.encode())
        done = await self._post("completion", asked, _Completed)
        return Completion(text=done.content, usage=_usage(done.timings))

    async def read(self, prompt: str, *, slot: int) -> None:
        """Let a slot read a prompt, so that what begins with it starts warm."""
        await self._post("completion", {"prompt": prompt, "n_predict": 0, "id_slot": slot}, _Completed)

    async def count(self, text: str) -> int:
        """The number of tokens of the text."""
        return len((await self._post("tokenize", {"content": text}, _Tokens)).tokens)

    async def save(self, slot: int, file: str) -> None:
        """Write what a slot has read into a file of the state folder."""
        await self._post(f"slots/{slot}?action=save", {"filename": file}, _Saved)

    async def restore(self, slot: int, file: str) -> None:
        """Give a slot what such a file holds. Raises ParameterUnsupported when the file does not fit."""
        await self._post(f"slots/{slot}?action=restore", {"filename": file}, _Saved)

    async def close(self) -> None:
        """Close the connections."""
        await self.pool.aclose()

    async def _post(self, path: str, asked: object, answer: type[T]) -> T:
        try:
            response = await self.pool.post(
                path, content=msgspec.json.encode(asked), headers={"content-type": "application/json"}
            )
        except httpx.TimeoutException as slow:
            raise ProviderTimeout from slow
        except httpx.HTTPError as broken:
            raise EngineCrashed from broken
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.DecodeError as broken:
            raise ProviderGarbage from broken


def _usage(timings: _Timings) -> Usage:
    return Usage(
        input_tokens=timings.cache_n + timings.prompt_n,
        output_tokens=timings.predicted_n,
        cached_tokens=timings.cache_n,
    )


def _refusal(response: httpx.Response) -> Exception:
    if "exceed_context_size" in response.text:
        return ContextTooLong()
    if response.status_code < 500:
        return ParameterUnsupported(f"engine answered {response.status_code}")
    return ProviderFailed(f"engine answered {response.status_code}")
