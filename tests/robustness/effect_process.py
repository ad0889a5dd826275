"""A process to be killed: the conversation and its agent loop over one database, with an action that writes a line.

effect_process.py DATABASE SOCKET WORLD [again]: with `again` the model only goes on after what was begun before.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from chassis import engines
from orchestrator_svc.tools.tool import Output, Setting
from tests.interaction.context_svc.agent import Line, World, agent_room
from tests.interaction.orchestrator_svc.scripted_llm import Ask, Say

PAUSE = 0.05  # seconds before and after the effect, so that a kill can fall between


@dataclass
class Counter(World):
    """The world: each effect is a line that outlives the process."""

    async def _write(self, line: Line, setting: Setting) -> Output:
        await asyncio.sleep(PAUSE)
        with self.file.open("a") as world:
            world.write(f"{line.text}\n")
            world.flush()
            os.fsync(world.fileno())
        setting.progress("written", 0.5)
        await asyncio.sleep(PAUSE)
        return Output(content="written")


async def serve(database: str, socket: str, world: str, *, again: bool) -> None:
    """Serve until killed."""
    writes = (Say("I will write. "), Ask("w1", "write", '{"text":"hello"}'))
    done = (Say("Done."),)
    steps = [done] * 8 if again else [writes, *[done] * 8]
    async with (
        engines.connect(database, schema="") as store,
        agent_room(store, Counter(Path(world)), steps, address=f"unix:{socket}"),
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4], again=len(sys.argv) > 4))
