"""A built-in model behind the room's own provider, without the room: for examinations of what it answers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.clock import SystemClock
from llm_svc.engine.assembly import built_in
from llm_svc.engine.options import Options
from llm_svc.profiles import built_in_model
from llm_svc.providers.builtin import Builtin
from mesh.manifest import built_in as manifest

WEIGHTS = Path(".mesh/models")
LOADING_SECONDS = 300.0


@asynccontextmanager
async def local_model(name: str) -> AsyncIterator[tuple[Builtin, str]]:
    """The provider, ready, and the full name of the model called "default", "light" or "tiny".

    Its weights must be in ``.mesh/models``: `mesh models pull` brings them. Raises EngineCrashed without them.
    """
    weights = manifest()[name]
    model = built_in_model(weights.name)
    with tempfile.TemporaryDirectory(prefix="lm", dir="/tmp") as folder:
        options = Options(
            model=str((WEIGHTS / weights.file).absolute()),
            socket=f"{folder}/e.sock",
            state_dir=f"{folder}/s",
            context_tokens=model.context_tokens * 2,
            parallel=2,
            threads=2,
        )
        opened = built_in(model, options, sha256=weights.sha256, queue=4, clock=SystemClock())
        async with opened as (provider, process):
            await process.wait_ready(LOADING_SECONDS)
            yield provider, weights.name
