"""A server of 120 tools in real turns: what its model is offered, how it gets at the rest, and what it never sees."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types
import pytest

from assistant.chat.v1 import chat_pb2 as chat
from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2 as generation
from assistant.turn.v1 import turn_pb2 as pb
from assistant.turn.v1 import turn_pb2_grpc as rpc
from chassis.clock import SystemClock
from chassis.testing import SOON
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.extensions import extended
from orchestrator_svc.selection import Limits
from orchestrator_svc.servers import configuration
from orchestrator_svc.servers.look import look
from tests.interaction.orchestrator_svc.room import kind, room, start
from tests.interaction.orchestrator_svc.scripted_llm import Ask, Say, ScriptedLlm
from tests.unit.orchestrator_svc.kit import settings
from tests.unit.orchestrator_svc.servers.hostile import Odd, serving, tool

pytestmark = [pytest.mark.requirement("AGT-2", "MCP-1"), pytest.mark.slow]

VERBS = ("archive", "count", "export", "label", "list", "merge", "open", "rename", "share", "sort")
NOUNS = (
    *("album", "badge", "budget", "contract", "invoice", "lead"),
    *("photo", "playlist", "recipe", "ticket", "trip", "vote"),
)
READS = mcp_types.ToolAnnotations(read_only_hint=True)
TOOLS = [
    tool(f"{verb}_{noun}", f"Will {verb} one {noun} of the office.", annotations=READS)
    for verb in VERBS
    for noun in NOUNS
]
TOOLS[7] = tool("water_plants", "Waters the plants in the greenhouse.", annotations=READS)
TOOLS[8] = tool("empty_pond", "Lets the water out of the pond.")  # it changes something
NEW = tool("drain_lake", "Lets the water out of the lake.", annotations=READS)  # nobody approved it
PLANTS, POND, LAKE = "office__water_plants", "office__empty_pond", "office__drain_lake"
SOMETHING = generation.Model(
    name="m", provider="test", context_tokens=128_000, tools=True, local=True, default=True
)


@asynccontextmanager
async def office(folder: Path) -> AsyncIterator[tuple[Catalogue, Odd]]:
    """All actions, with those of a server that has 120 approved tools and one that nobody approved."""
    odd = Odd()
    odd.tools = TOOLS
    async with serving(odd.app()) as url:
        (folder / configuration.FILE).write_text(f'[servers.office]\nurl = "{url}"\nprivate = true\n')
        told = await look("office", folder, folder, path=os.environ["PATH"], unsandboxed=False)
        pins = "".join(f'"{each["tool"]}" = "{each["digest"]}"\n' for each in told["tools"])
        (folder / configuration.LOCK).write_text(f"[servers.office]\n{pins}")
        odd.tools = [*TOOLS, NEW]
        async with extended(settings(data_dir=folder), SystemClock()) as catalogue:
            async with asyncio.timeout(4 * SOON.total_seconds()):
                while not _ready(catalogue):  # noqa: ASYNC110 - the shelf is looked at, it tells nobody
                    await asyncio.sleep(0.01)
            yield catalogue, odd


def _ready(catalogue: Catalogue) -> bool:
    found = catalogue.now().get(PLANTS)
    return found is not None and found.ready


def offered(frame: generation.StartGeneration | generation.ToolResults) -> list[str]:
    """What a frame offers; nothing when it changes nothing."""
    return [spec.name for spec in frame.tools]


def asked(llm: ScriptedLlm) -> list[list[str]]:
    """What each request to the model offered."""
    return [*map(offered, llm.opened), *map(offered, llm.continued)]


Seen = tuple[ScriptedLlm, list[pb.RunTurnResponse], Odd]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Any]:
    async def played(say: str, *steps: Any, **order: Any) -> Seen:
        llm = ScriptedLlm(steps=list(steps), models=[SOMETHING])
        async with office(tmp_path) as (catalogue, odd), room(llm, catalogue=catalogue) as here:
            async with here.turn(start(say, **order)) as turn:
                frames = await turn.rest()
            stub = rpc.TurnServiceStub(here.channel)
            listed = (await stub.ListActions(pb.ListActionsRequest())).actions
        everything = {each.name for each in listed}
        assert {PLANTS, POND, LAKE, "find_tools"} <= everything
        assert len([name for name in everything if name.startswith("office__")]) == len(TOOLS) + 1
        for names in asked(llm):
            assert len(names) <= Limits().actions
            assert LAKE not in names
        return llm, frames, odd

    return played


async def test_the_wanted_one_of_120_is_offered_for_the_persons_words(play: Any) -> None:
    llm, frames, odd = await play(
        "Please water the plants", [Ask("a", PLANTS, '{"words": "plants"}')], [Say("Done.")]
    )
    assert PLANTS in offered(llm.opened[0])
    assert {"calculate", "find_tools", "remember"} <= set(offered(llm.opened[0]))
    assert (odd.calls, kind(frames[-1])) == (["water_plants"], "turn_finished")
    assert list(llm.continued[0].tools) == [], "the same ones need not be told again"


async def test_the_wanted_one_is_found_when_the_persons_words_share_nothing_with_it(play: Any) -> None:
    llm, frames, odd = await play(
        "Die Tomaten lassen die Blätter hängen",
        [Ask("a", "find_tools", '{"query": "water plants"}')],
        [Ask("b", PLANTS, '{"words": "Tomaten"}')],
        [Say("Gegossen.")],
    )
    before, after = offered(llm.opened[0]), offered(llm.continued[0])
    assert not any(name.startswith("office__") for name in before)
    assert after[: len(before)] == before, "what is new stands at the end"
    assert PLANTS in after
    _, *told = llm.continued[0].results[0].content.splitlines()
    found = [line.partition(":")[0] for line in told if line.startswith("office__")]
    assert found == after[len(before) :]
    assert (odd.calls, kind(frames[-1])) == (["water_plants"], "turn_finished")


async def test_one_that_was_not_offered_answers_so_and_is_there_in_the_next_step(play: Any) -> None:
    llm, frames, odd = await play(
        "hm", [Ask("a", PLANTS, '{"words": "hm"}')], [Ask("b", PLANTS, '{"words": "hm"}')], [Say("Done.")]
    )
    finished = [frame.event.tool_finished for frame in frames if kind(frame) == "tool_finished"]
    assert [each.error.reason for each in finished] == [
        error_pb2.ERROR_REASON_ACTION_NOT_OFFERED,
        error_pb2.ERROR_REASON_UNSPECIFIED,
    ]
    assert PLANTS not in offered(llm.opened[0])
    assert offered(llm.continued[0])[-1] == PLANTS
    assert odd.calls == ["water_plants"], "once: the first call ran nothing"


async def test_what_was_found_still_asks_before_it_has_an_effect(play: Any) -> None:
    llm, frames, odd = await play(
        "hm", [Ask("a", "find_tools", '{"query": "pond"}')], [Ask("b", POND, '{"words": "x"}')]
    )
    assert POND in offered(llm.continued[0])
    assert [kind(frame) for frame in frames][-1] == "suspended"
    assert "approval_requested" in [kind(frame) for frame in frames]
    assert odd.calls == []


@pytest.mark.parametrize("wanted", [LAKE, PLANTS])
async def test_one_that_policy_forbids_is_neither_offered_nor_found(play: Any, wanted: str) -> None:
    """The lake's was never approved; the plants' is not among those that the turn is limited to."""
    allowed = [f"office__{each.name}" for each in TOOLS[8:70]]
    llm, frames, odd = await play(
        "Drain the lake, empty the pond, water the plants",
        [Ask("a", "find_tools", '{"query": "water plants lake", "limit": 8}'), Ask("b", wanted)],
        [Say("No.")],
        **({"options": chat.TurnOptions(actions=allowed)} if wanted == PLANTS else {}),
    )
    for names in asked(llm):
        assert wanted not in names
    assert wanted not in llm.continued[0].results[0].content
    finished = {each.call_id: each for frame in frames if (each := frame.event.tool_finished).call_id}
    assert finished["b"].error.reason == error_pb2.ERROR_REASON_ACTION_NOT_FOUND
    assert POND in offered(llm.opened[0]), "what is like it and allowed is there"
    assert odd.calls == []
