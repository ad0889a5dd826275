"""llm_svc alone, in a process of its own, for whoever dials: `python -m benchmarks.llm_room SOCKET DATA PORT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from chassis.call import Grant, RoomCaller
from chassis.testing import Everyone
from llm_svc.app import app
from llm_svc.settings import Settings


async def _main(socket: str, data: Path, port: str) -> None:
    settings = Settings(
        listen=f"unix:{socket}",
        data_dir=data,
        keys_dir=data,
        context="unix:/nowhere",
        openai_base_url=f"http://127.0.0.1:{port}/v1",
        openai_models="bench",
    )
    caller = RoomCaller(name="orchestrator", grant=Grant(account="bench", kind="turn", work=""))
    async with app(settings, authenticator=Everyone(caller)):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
