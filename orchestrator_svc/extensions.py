"""The built-in actions together with what the operator adds to them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from chassis import telemetry
from chassis.clock import Clock
from chassis.settings import environment
from chassis.tasks import Tasks
from orchestrator_svc.additions import Additions, LiveCatalogue
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.plugins.folder import PluginFolder
from orchestrator_svc.sandbox.cell import NoSandbox, Sandbox, find
from orchestrator_svc.settings import Settings
from orchestrator_svc.toolbox import toolbox

log = telemetry.logger(__name__)


@asynccontextmanager
async def extended(settings: Settings, clock: Clock) -> AsyncIterator[Catalogue]:
    """All actions. What is added, changed or taken away while the block runs is so for the next turn."""
    async with AsyncExitStack() as stack:
        built_in = await stack.enter_async_context(toolbox(settings))
        tasks = await stack.enter_async_context(Tasks())
        sandbox = await _sandbox(settings)
        additions: list[Additions] = []
        if settings.plugins is not None:
            additions.append(PluginFolder(settings.plugins, sandbox, tasks))
        catalogue = LiveCatalogue(built_in, additions)
        tasks.spawn("additions", catalogue.watch(clock))
        yield catalogue


async def _sandbox(settings: Settings) -> Sandbox | NoSandbox:
    try:
        found = await find(environment().get("PATH", os.defpath), accept_none=settings.unsandboxed)
    except NoSandbox as error:
        log.warning("no sandbox")
        return error
    if not found.confines:
        log.warning("programs of others run without a sandbox, as the operator accepts")
    return found
