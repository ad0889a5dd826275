"""Print what a configured server offers now, as JSON, for the operator to approve: ``python -m … NAME``.

The environment is that of the room, as far as it matters: data and keys folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from chassis.settings import environment
from orchestrator_svc.egress.failures import EgressFailure
from orchestrator_svc.sandbox.cell import NoSandbox, Sandbox, find
from orchestrator_svc.servers.configuration import ConfigurationBroken, servers, token
from orchestrator_svc.servers.session import CONNECT_SECONDS, ServerDown, session
from orchestrator_svc.servers.shelf import why
from orchestrator_svc.servers.wares import shown


async def look(name: str, data: Path, keys: Path, *, path: str, unsandboxed: bool) -> dict[str, Any]:
    """{"tools": …} or {"trouble": …}."""
    sandbox: Sandbox | NoSandbox
    try:
        found = servers(data)
        if name not in found:
            raise ServerDown(f"there is no server called {name} in mcp.toml")
        try:
            sandbox = await find(path, accept_none=unsandboxed)
        except NoSandbox as error:
            sandbox = error
        async with asyncio.timeout(CONNECT_SECONDS):
            async with session(name, found[name], token(name, found[name], data, keys), sandbox) as opened:
                return {"tools": [dict(shown(each)) for each in await opened.wares()]}
    except (ConfigurationBroken, ServerDown, EgressFailure) as error:
        return {"trouble": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a foreign server makes the SDK raise, it is down
        return {"trouble": why(error)}


def main() -> None:
    """Look, and print."""
    told = environment()
    looking = look(
        sys.argv[1],
        Path(told["ORCHESTRATOR_DATA_DIR"]),
        Path(told["ORCHESTRATOR_KEYS_DIR"]),
        path=told.get("PATH", ""),
        unsandboxed=told.get("ORCHESTRATOR_UNSANDBOXED", "").lower() in ("1", "true", "yes"),
    )
    sys.stdout.write(json.dumps(asyncio.run(looking)))


if __name__ == "__main__":
    main()
