"""The built-in actions together with what the operator adds to them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from chassis import telemetry
from chassis.clock import Clock
from chassis.settings import environment
from chassis.tasks import Tasks
from orchestrator_svc.additions import Additions, LiveCatalogue
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.plugins.folder import PluginFolder
from orchestrator_svc.sandbox.cell import NoSandbox, Sandbox, find
from orchestrator_svc.servers.configuration import Server, token
from orchestrator_svc.servers.shelf import ServerShelf, Token
from orchestrator_svc.settings import Settings
from orchestrator_svc.toolbox import toolbox

log = telemetry.logger(__name__)


@asynccontextmanager
async def extended(settings: Settings, clock: Clock) -> AsyncIterator[Catalogue]:
    """All actions. What is added, changed or taken away while the block runs is so for the next turn."""
    async with AsyncExitStack() as stack:
        built_in = await stack.enter_async_context(toolbox(settings))
        tasks = await stack.enter_async_context(Tasks())
        sandbox = await sandbox_of(settings)
        additions: list[Additions] = []
        if settings.plugins is not None:
            additions.append(PluginFolder(settings.plugins, sandbox, tasks))
        if settings.data_dir is not None:
            additions.append(ServerShelf(settings.data_dir, server_token(settings), sandbox, tasks, clock))
        catalogue = LiveCatalogue(built_in, additions)
        await catalogue.look()  # what loads in a moment is there for the first turn
        tasks.spawn("additions", catalogue.watch(clock))
        yield catalogue


def server_token(settings: Settings) -> Token:
    """What finds the tokens of servers."""

    def find_token(name: str, server: Server) -> str:
        return token(name, server, settings.data_dir or Path(), settings.keys_dir)

    return find_token


async def sandbox_of(settings: Settings) -> Sandbox | NoSandbox:
    """The sandbox of this machine, or why there is none."""
    try:
        found = await find(environment().get("PATH", os.defpath), accept_none=settings.unsandboxed)
    except NoSandbox as error:
        log.warning("no sandbox")
        return error
    if not found.confines:
        log.warning("programs of others run without a sandbox, as the operator accepts")
    return found
