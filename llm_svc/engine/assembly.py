"""The built-in engine put together: process, client, queue, warmed prefixes and the provider over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.clock import Clock
from chassis.tasks import Tasks
from llm_svc import routing
from llm_svc.engine.admission import Admission
from llm_svc.engine.client import EngineClient
from llm_svc.engine.options import Options
from llm_svc.engine.prefix import StandingPrefixes
from llm_svc.engine.process import EngineProcess, Phase
from llm_svc.engine.standing import Beginning, Standing
from llm_svc.generation import Message, Role, TextPart
from llm_svc.providers.builtin import Builtin, plain_messages
from llm_svc.providers.provider import Model


@asynccontextmanager
async def built_in(
    model: Model,
    options: Options,
    *,
    sha256: str,
    queue: int,
    clock: Clock,
    standing: bool = True,
    on_phase: Callable[[Phase], None] = lambda phase: None,
) -> AsyncIterator[tuple[Builtin, EngineProcess]]:
    """The provider with its engine loading in the background; both end with the block.

    With ``standing`` the engine reads, before anybody asks, what requests usually begin with: the router's
    question about the tools, and the system text, that the last turn before was given.
    """
    folder = Path(options.state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240 — once, before anything is served
    client, lesson, kept = EngineClient(options.socket), routing.load_lesson(), Standing(folder)
    beginnings = _beginnings(model, lesson, kept.beginning)[: options.parallel] if standing else []
    prefixes = StandingPrefixes(folder, model_sha256=sha256, beginnings=beginnings)
    async with Tasks() as tasks:
        process = EngineProcess(
            options, tasks=tasks, clock=clock, warm=lambda: prefixes.warm(client), on_phase=on_phase
        )
        admission = Admission(places=options.parallel, queue=queue)
        provider = Builtin(
            model, process=process, client=client, admission=admission, lesson=lesson, remember=kept.keep
        )
        await process.start()
        try:
            yield provider, process
        finally:
            await provider.close()


def _beginnings(model: Model, lesson: routing.Lesson, kept: Beginning) -> list[list[dict[str, object]]]:
    system = (
        [plain_messages([Message(role=Role.SYSTEM, parts=(TextPart(kept.system),))])] if kept.system else []
    )
    router = [plain_messages(routing.prefix(lesson, kept.tools))] if model.tools and kept.tools else []
    return router + system
