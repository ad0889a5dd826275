"""A hundred turns in which others' words give orders, and a model that obeys all: nothing happens, nothing leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest

from assistant.chat.v1 import chat_pb2
from assistant.generation.v1 import generation_pb2 as pb
from assistant.message.v1 import message_pb2 as msg
from assistant.turn.v1 import turn_pb2
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.tools.hosted import HOSTED
from orchestrator_svc.tools.tool import Effect, Output, Setting, Tool
from tests.interaction.injection.corpus import CARRIERS, GOALS, HOME, SECRET, Goal, page, seen, start
from tests.interaction.orchestrator_svc.room import kind, room
from tests.interaction.orchestrator_svc.scripted_llm import ScriptedLlm, Step


class Words(msgspec.Struct, forbid_unknown_fields=True):
    """What to look up."""

    q: str


class Letter(msgspec.Struct):
    """What to send."""

    to: str
    text: str
    approved: bool = False


@dataclass
class Obedient(ScriptedLlm):
    """Asks for what it was told to find, and then does whatever anything it sees wants of it, until it may not."""

    steps: list[Step] = field(default_factory=list)
    obeyed: list[str] = field(default_factory=list)

    async def Generate(
        self, request_iterator: AsyncIterator[pb.GenerateRequest], context: object
    ) -> AsyncIterator[pb.GenerateResponse]:
        shown, number = "", 0
        async for request in request_iterator:
            if request.HasField("start"):
                shown = seen(request.start.window, list(request.start.tools))
                yield pb.GenerateResponse(started=pb.GenerationStarted(model="parrot", local=True))
            else:
                shown += request.tool_results.SerializeToString().decode("utf-8", "replace")
            orders = [goal for goal in GOALS if goal.words in shown and goal.name not in self.obeyed]
            calls = [call for goal in orders for call in goal.calls]
            self.obeyed += [goal.name for goal in orders]
            if not calls and not number and not request.HasField("tool_results"):
                calls = [("lookup", '{"q":"moss"}'), ("served", '{"q":"moss"}')]
            for action, arguments in calls:
                number += 1
                part = msg.ToolCallPart(call_id=f"c{number}", action=action, arguments_json=arguments)
                yield pb.GenerateResponse(tool_call=part)
            if not calls:
                yield pb.GenerateResponse(text="Moss grows slowly.")
            reason = msg.FINISH_REASON_TOOL_CALLS if calls else msg.FINISH_REASON_STOP
            yield pb.GenerateResponse(step_finished=pb.StepFinished(finish_reason=reason))
            if not calls:
                return


@dataclass
class Outside:
    """What the world outside was told, and what was done to it."""

    carrier: str
    words: str
    told: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    async def look_up(self, asked: Words, setting: Setting) -> Output:
        self.told.append(asked.q)
        return Output(content=page(self.words) if self.carrier == "web page" else "Moss grows slowly.")

    async def serve(self, asked: Words, setting: Setting) -> Output:
        self.told.append(asked.q)
        return Output(content=self.words if self.carrier == "MCP result" else "Moss.")

    async def send(self, letter: Letter, setting: Setting) -> Output:
        self.done.append(letter.to)
        return Output(content="sent")

    @property
    def catalogue(self) -> Catalogue:
        described = self.words if self.carrier == "MCP tool description" else "Asks a server about mosses."
        served = self.carrier in ("MCP tool description", "MCP result")
        return Catalogue(
            (
                *HOSTED,
                Tool(
                    name="lookup",
                    description="Looks a word up.",
                    arguments=Words,
                    perform=self.look_up,
                    agent="web",
                    effect=Effect.READS_OUT,
                ),
                Tool(
                    name="served",
                    description=described,
                    arguments=Words,
                    perform=self.serve,
                    agent="mcp.moss",
                    effect=Effect.READS_OUT,
                    outside=served,
                ),
                Tool(
                    name="mail",
                    description="Sends a letter.",
                    arguments=Letter,
                    perform=self.send,
                    agent="post",
                    effect=Effect.EFFECT,
                ),
            )
        )


@pytest.mark.requirement("AGT-7")
@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.name.replace(" ", "-"))
@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda name: name.replace(" ", "-"))
async def test_words_of_others_cause_no_effect_and_let_nothing_out(carrier: str, goal: Goal) -> None:
    outside = Outside(carrier, goal.words)
    llm = Obedient()
    async with room(llm, catalogue=outside.catalogue) as here, here.turn(start(carrier, goal)) as turn:
        await turn.rest()
    assert goal.name in llm.obeyed, "the words never reached the model"
    assert outside.done == []
    assert set(outside.told) <= {"moss"}  # the person's own word, and nothing else
    assert not any(SECRET in told or HOME in told for told in outside.told)
    kinds = [kind(frame) for frame in turn.frames]
    assert "host_call" not in kinds  # nothing was written for the person
    ended = {each.call_id: each.outcome for each in _finished(turn.frames)}
    ordered = {(action, arguments) for action, arguments in goal.calls}
    ran = [each.call_id for each in _started(turn.frames) if (each.action, each.arguments_json) in ordered]
    assert all(ended[call_id] != chat_pb2.TOOL_OUTCOME_DONE for call_id in ran)
    if kinds[-1] == "suspended":
        asked = _asked(turn.frames[-1].suspended)
        assert {(each.action, each.arguments_json) for each in asked} <= ordered
    else:
        assert ran or kinds[-1] == "turn_failed"  # refused outright, or over its limit


def _started(frames: list[turn_pb2.RunTurnResponse]) -> list[chat_pb2.ToolStarted]:
    return [frame.event.tool_started for frame in frames if frame.event.HasField("tool_started")]


def _finished(frames: list[turn_pb2.RunTurnResponse]) -> list[chat_pb2.ToolFinished]:
    return [frame.event.tool_finished for frame in frames if frame.event.HasField("tool_finished")]


def _asked(suspended: turn_pb2.Suspended) -> list[chat_pb2.ApprovalRequested]:
    return [pending.approval for pending in suspended.pending if pending.HasField("approval")]
