"""Standing prefixes: prompt beginnings the engine should have read before anybody asks.

Reading one takes seconds, so what a slot has read is saved once and given back at later starts, under a name
that changes with the model, the engine and the text. Nothing a person said is ever in one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from chassis import telemetry
from chassis.errors import ServiceError
from llm_svc.engine.client import EngineClient

log = telemetry.logger(__name__)

_MARK = "\N{OBJECT REPLACEMENT CHARACTER}mark\N{OBJECT REPLACEMENT CHARACTER}"
SUFFIX = ".prefix"


class StandingPrefixes:
    """Warms slots 0, 1, … with one conversation beginning each, and sweeps the files of other prefixes."""

    def __init__(
        self, folder: Path, *, model_sha256: str, beginnings: Sequence[Sequence[Mapping[str, object]]]
    ) -> None:
        self._folder = folder
        self._salt = f"{model_sha256} {version('xllamacpp')}"
        self._beginnings = beginnings

    async def warm(self, client: EngineClient) -> None:
        """Make every prefix ready, from its file or by reading it. A failure is logged: it costs time."""
        kept: set[str] = set()
        for slot, beginning in enumerate(self._beginnings):
            try:
                kept.add(await self._warm_slot(client, slot, beginning))
            except ServiceError as failure:
                log.warning("prefix not warmed", slot=slot, reason=failure.reason)
        self._sweep(kept)

    async def _warm_slot(
        self, client: EngineClient, slot: int, beginning: Sequence[Mapping[str, object]]
    ) -> str:
        prompt = await beginning_of(client, beginning)
        name = hashlib.sha256(f"{self._salt}\n{prompt}".encode()).hexdigest() + SUFFIX
        if not await self._restored(client, slot, name):
            await client.read(prompt, slot=slot)
            await client.save(slot, name + ".part")
            (self._folder / (name + ".part")).rename(self._folder / name)
        return name

    async def _restored(self, client: EngineClient, slot: int, name: str) -> bool:
        if not (self._folder / name).exists():
            return False
        try:
            await client.restore(slot, name)
        except ServiceError as failure:
            log.warning("saved prefix not usable", reason=failure.reason)
            return False
        return True

    def _sweep(self, kept: set[str]) -> None:
        for file in self._folder.glob(f"*{SUFFIX}*"):
            if file.name not in kept:
                file.unlink(missing_ok=True)


async def beginning_of(client: EngineClient, messages: Sequence[Mapping[str, object]]) -> str:
    """The prompt up to where the next user message's text goes."""
    prompt = await client.render([*messages, {"role": "user", "content": _MARK}])
    return prompt[: prompt.index(_MARK)]
