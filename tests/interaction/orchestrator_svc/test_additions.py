"""Plugins in real turns: what one answers reaches the model; one that hangs ends with its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assistant.agent.v1 import agent_pb2
from assistant.error.v1 import error_pb2
from assistant.turn.v1 import turn_pb2 as pb
from assistant.turn.v1 import turn_pb2_grpc as rpc
from chassis.clock import SystemClock
from chassis.testing import SOON, eventually
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.extensions import extended
from tests.interaction.orchestrator_svc.room import kind, room, start
from tests.interaction.orchestrator_svc.scripted_llm import Ask, Say, ScriptedLlm
from tests.unit.orchestrator_svc.kit import settings

PLUGIN = """
import time
from mesh_plugin import action

@action()
def pantry(item: str) -> str:
    "Tells what is in the pantry."
    return f"3 {item}s"

@action()
def hang() -> str:
    "Never answers."
    time.sleep(600)
"""


@asynccontextmanager
async def extended_with(folder: Path, wanted: str) -> AsyncIterator[Catalogue]:
    """All actions, once the wanted one is there."""
    async with extended(settings(data_dir=folder), SystemClock()) as catalogue:
        async with asyncio.timeout(4 * SOON.total_seconds()):
            while catalogue.now().get(wanted) is None:  # noqa: ASYNC110 - the folder is looked at, it tells nobody
                await asyncio.sleep(0.01)
        yield catalogue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/pantry.py").write_text(PLUGIN)
    (tmp_path / "plugins/broken.py").write_text("import nothing_like_it")
    return tmp_path


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6", "AGT-2")
async def test_a_plugin_answers_a_turn_and_a_broken_one_is_listed(folder: Path) -> None:
    llm = ScriptedLlm(steps=[[Ask("a", "pantry", '{"item": "egg"}')], [Say("Three eggs.")]])
    async with extended_with(folder, "broken.py") as tools, room(llm, catalogue=tools) as here:
        async with here.turn(start()) as turn:
            assert (await turn.kinds())[-1] == "turn_finished"
        listed = (await rpc.TurnServiceStub(here.channel).ListActions(pb.ListActionsRequest())).actions
    assert llm.continued[0].results[0].content == "3 eggs"
    named = {each.name: each for each in listed}
    assert named["pantry"].origin == agent_pb2.ACTION_ORIGIN_PLUGIN
    broken = named["broken.py"]
    assert (broken.state, broken.state_reason) == (
        agent_pb2.ACTION_STATE_FAILED,
        error_pb2.ERROR_REASON_ACTION_FAILED,
    )
    assert "nothing_like_it" in broken.state_message


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6", "AGT-6")
async def test_a_plugin_that_hangs_ends_with_its_turn(folder: Path) -> None:
    llm = ScriptedLlm(steps=[[Ask("a", "hang", "{}")], [Say("Nothing.")]])
    async with (
        extended_with(folder, "hang") as tools,
        room(llm, catalogue=tools) as here,
        here.turn(start()) as turn,
    ):
        await turn.until(lambda frame: kind(frame) == "tool_started")
        await turn.send(cancel=pb.CancelTurn())
        assert (await turn.kinds())[-1] == "turn_cancelled"
        await eventually(lambda: not _running(folder))


def _running(folder: Path) -> list[Path]:
    return [each for each in Path("/proc").glob("[0-9]*/cmdline") if _names(each, folder)]


def _names(cmdline: Path, folder: Path) -> bool:
    try:
        return str(folder).encode() in cmdline.read_bytes()
    except OSError:
        return False
