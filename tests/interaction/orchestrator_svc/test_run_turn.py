"""RunTurn over real sockets, with a scripted llm_svc behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import grpc
import msgspec
import pytest

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2 as chat
from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2 as generation
from assistant.message.v1 import message_pb2 as msg
from assistant.turn.v1 import turn_pb2 as pb
from assistant.turn.v1 import turn_pb2_grpc as rpc
from chassis.status import reason_of
from chassis.testing import SOON, FakeClock
from orchestrator_svc import effects
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.inputs import Input, YieldRequested
from orchestrator_svc.tools import find_tools
from orchestrator_svc.tools.calculator import CALCULATOR
from orchestrator_svc.tools.tool import Effect, Output, Setting, Tool
from orchestrator_svc.turn import Turn
from tests.interaction.orchestrator_svc.room import kind, room, start
from tests.interaction.orchestrator_svc.scripted_llm import (
    PROVIDER_FAILED,
    Ask,
    Break,
    Hang,
    Say,
    ScriptedLlm,
    Vanish,
)

CALCULATE = Ask("c1", "calculate", '{"expression": "17*23"}')


class Nothing(msgspec.Struct):
    """No arguments."""


class Gate:
    """A tool that runs until it is let go, and knows how it ended."""

    def __init__(self, name: str = "wait", effect: Effect = Effect.NONE) -> None:
        self.began, self.open, self.cancelled, self.runs = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
            0,
        )
        self.tool = Tool(
            name=name,
            description="Waits.",
            arguments=Nothing,
            perform=self._perform,
            agent="test",
            effect=effect,
            timeout=30.0,
        )

    async def _perform(self, arguments: Nothing, setting: Setting) -> Output:
        self.runs += 1
        self.began.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Output(content="let go")


async def soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), SOON.total_seconds())


@pytest.mark.requirement("AGT-1")
async def test_a_question_is_answered_through_the_calculator() -> None:
    llm = ScriptedLlm(steps=[[CALCULATE], [Say("17*23 is "), Say("391.")]])
    async with room(llm) as here, here.turn(start("What is 17*23?")) as turn:
        assert await turn.kinds() == [
            "turn_started",
            "tool_started",
            "tool_finished",
            "text_delta",
            "turn_finished",
        ]
        tool = next(frame.event.tool_finished for frame in turn.frames if kind(frame) == "tool_finished")
        assert (tool.result, tool.outcome) == ("391", chat.TOOL_OUTCOME_DONE)
        finished = turn.last
    assert finished.message.id == "a1"
    assert finished.message.role == msg.ROLE_ASSISTANT
    assert [part.WhichOneof("content") for part in finished.message.parts] == [
        "tool_call",
        "tool_result",
        "text",
    ]
    assert finished.message.parts[2].text == "17*23 is 391."
    assert finished.message.model == "parrot"
    assert (finished.usage.input_tokens, finished.usage.output_tokens) == (200, 10)
    assert [each.content for each in llm.continued[0].results] == ["391"]
    assert not llm.continued[0].HasField("window")
    names = [spec.name for spec in llm.opened[0].tools]
    assert names == sorted(names)
    assert {"calculate", "convert_units", "current_time", "set_reminder"} <= {*names}
    assert all(frame.event.session_id == "" and frame.event.sequence == 0 for frame in turn.frames)
    assert all(frame.event.turn_id == "t1" for frame in turn.frames if frame.HasField("event"))


async def test_turn_started_names_model_and_window() -> None:
    llm = ScriptedLlm(steps=[[Say("Hello.")]])
    preferences = [pb.ModelPreference(model="gone", source=chat.MODEL_CHOICE_SOURCE_USER)]
    async with room(llm) as here, here.turn(start(models=preferences, attempt=3)) as turn:
        await turn.rest()
        started = turn.frames[0].event.turn_started
    assert (started.attempt, started.answer_id) == (3, "a1")
    assert (started.model.model, started.model.skipped_model, started.model.local) == ("parrot", "gone", True)
    assert started.model.source == chat.MODEL_CHOICE_SOURCE_DEFAULT
    assert started.window.kept_messages == 1
    assert started.window.budget_tokens == 8_000 - 1_024
    assert not llm.opened[0].explicit_model


async def test_receipts_add_up_to_the_usage_of_the_turn() -> None:
    llm = ScriptedLlm(steps=[[CALCULATE], [Say("391.")]])
    async with room(llm) as here, here.turn(start()) as turn:
        await turn.rest()
        receipts = [frame.receipt for frame in turn.frames if frame.HasField("receipt")]
        steps = [each.step for each in receipts if each.HasField("step")]
        assert sum(step.usage.input_tokens for step in steps) == turn.last.usage.input_tokens
        assert [each.call.action for each in receipts if each.HasField("call")] == ["calculate"]


@pytest.mark.requirement("AGT-1")
async def test_the_calls_of_one_step_run_at_the_same_time() -> None:
    first, second = Gate("first"), Gate("second")
    llm = ScriptedLlm(steps=[[Ask("a", "first"), Ask("b", "second")], [Say("Both.")]])
    async with room(llm, catalogue=Catalogue((first.tool, second.tool))) as here, here.turn(start()) as turn:
        await soon(first.began)
        await soon(second.began)
        second.open.set()
        await turn.until(lambda frame: kind(frame) == "tool_finished")
        assert not llm.continued
        first.open.set()
        assert (await turn.kinds())[-1] == "turn_finished"
    assert [each.call_id for each in llm.continued[0].results] == ["a", "b"]


@pytest.mark.requirement("AGT-6")
async def test_cancelling_reaches_the_tool_and_keeps_what_was_said() -> None:
    gate = Gate()
    llm = ScriptedLlm(steps=[[Say("Let me see."), Ask("a", "wait"), Hang()]])
    async with room(llm, catalogue=Catalogue((gate.tool,))) as here, here.turn(start()) as turn:
        await soon(gate.began)
        await turn.send(cancel=pb.CancelTurn())
        await turn.rest()
        await soon(gate.cancelled)
        await soon(llm.stopped)
    assert turn.last.partial.parts[0].text == "Let me see."
    assert turn.last.partial.partial
    assert kind(turn.frames[-1]) == "turn_cancelled"


@pytest.mark.requirement("AGT-6")
async def test_a_stopped_tool_has_the_moment_that_it_takes_to_stop_its_server() -> None:
    began, told = asyncio.Event(), asyncio.Event()

    async def perform(arguments: Nothing, setting: Setting) -> Output:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):  # what says so to a server awaits more than once
                await asyncio.sleep(0)
            told.set()
        raise AssertionError("nobody lets it go")

    asks = Tool(
        name="wait",
        description="Waits.",
        arguments=Nothing,
        perform=perform,
        agent="test",
        effect=Effect.NONE,
    )
    llm = ScriptedLlm(steps=[[Ask("a", "wait"), Hang()]])
    async with room(llm, catalogue=Catalogue((asks,))) as here, here.turn(start()) as turn:
        await soon(began)
        await turn.send(cancel=pb.CancelTurn())
        await turn.rest()
        await soon(told)
    assert kind(turn.frames[-1]) == "turn_cancelled"


@pytest.mark.requirement("AGT-6")
async def test_a_broken_stream_stops_model_and_tools() -> None:
    gate = Gate()
    llm = ScriptedLlm(steps=[[Ask("a", "wait"), Hang()]])
    async with room(llm, catalogue=Catalogue((gate.tool,))) as here:
        async with here.turn(start()) as turn:
            await turn.until(lambda frame: kind(frame) == "tool_started")
            await soon(gate.began)
        await soon(gate.cancelled)
        await soon(llm.stopped)


@pytest.mark.requirement("AGT-6")
async def test_a_tool_that_takes_too_long_is_stopped_and_the_model_is_told() -> None:
    gate, clock = Gate(), FakeClock()
    llm = ScriptedLlm(steps=[[Ask("a", "wait")], [Say("It took too long.")]])
    async with room(llm, clock=clock, catalogue=Catalogue((gate.tool,))) as here, here.turn(start()) as turn:
        await turn.until(lambda frame: kind(frame) == "receipt")  # the step is over: only the tool runs
        await soon(gate.began)
        await clock.advance(timedelta(seconds=31))
        await soon(gate.cancelled)
        finished = await turn.until(lambda frame: kind(frame) == "tool_finished")
        assert finished.event.tool_finished.error.reason == error_pb2.ERROR_REASON_ACTION_TIMEOUT
        assert finished.event.tool_finished.error.retryable
        assert (await turn.kinds())[-1] == "turn_finished"
    assert llm.continued[0].results[0].failed


async def test_a_quiet_turn_says_every_ten_seconds_that_it_is_alive() -> None:
    gate, clock = Gate(), FakeClock()
    llm = ScriptedLlm(steps=[[Ask("a", "wait")], [Say("Done.")]])
    async with room(llm, clock=clock, catalogue=Catalogue((gate.tool,))) as here, here.turn(start()) as turn:
        await turn.until(lambda frame: kind(frame) == "receipt")
        await soon(gate.began)
        await clock.advance(timedelta(seconds=11))
        alive = await turn.until(lambda frame: kind(frame) == "progress")
        assert alive.progress.stage == chat.TURN_STAGE_TOOL
        gate.open.set()
        assert (await turn.kinds())[-1] == "turn_finished"


async def test_a_model_that_freezes_ends_the_turn_after_thirty_seconds() -> None:
    clock = FakeClock()
    llm = ScriptedLlm(steps=[[Say("Once"), Hang()]])
    async with room(llm, clock=clock) as here, here.turn(start()) as turn:
        await turn.until(lambda frame: kind(frame) == "text_delta")
        await clock.advance(timedelta(seconds=31))
        await turn.rest()
        await soon(llm.stopped)
    failed = turn.last
    assert failed.reason == error_pb2.ERROR_REASON_FROZEN
    assert failed.stage == chat.TURN_STAGE_MODEL
    assert failed.retryable
    assert failed.partial.parts[0].text == "Once"


@pytest.mark.requirement("AGT-1")
async def test_a_turn_that_takes_too_long_ends_with_its_reason() -> None:
    gate, clock = Gate(), FakeClock()
    llm = ScriptedLlm(steps=[[Ask("a", "wait")]])
    budget = pb.Budget()
    budget.max_time.FromSeconds(20)
    async with (
        room(llm, clock=clock, catalogue=Catalogue((gate.tool,))) as here,
        here.turn(start(budget=budget)) as turn,
    ):
        await turn.until(lambda frame: kind(frame) == "receipt")
        await soon(gate.began)
        await clock.advance(timedelta(seconds=21))
        await turn.rest()
    assert turn.last.reason == error_pb2.ERROR_REASON_TURN_TIMEOUT
    assert turn.last.stage == chat.TURN_STAGE_TOOL
    assert gate.cancelled.is_set()


@pytest.mark.parametrize(
    ("step", "reason", "partial"),
    [
        ([Break(PROVIDER_FAILED)], error_pb2.ERROR_REASON_PROVIDER_FAILED, False),
        ([Say("Once"), Break(PROVIDER_FAILED)], error_pb2.ERROR_REASON_PARTIAL, True),
        ([Vanish()], error_pb2.ERROR_REASON_PEER_UNAVAILABLE, False),
        ([Say("Once"), Vanish()], error_pb2.ERROR_REASON_PARTIAL, True),
    ],
)
async def test_a_failing_model_ends_the_turn_in_band(step: list[Say], reason: int, partial: bool) -> None:
    async with room(ScriptedLlm(steps=[step])) as here, here.turn(start()) as turn:
        await turn.rest()
        assert await turn.call.code() == grpc.StatusCode.OK
    assert turn.last.reason == reason
    assert turn.last.stage == chat.TURN_STAGE_MODEL
    assert turn.last.retryable
    assert turn.last.HasField("partial") is partial


async def test_an_llm_room_that_does_not_answer_ends_the_turn_in_band() -> None:
    async with room(ScriptedLlm(steps=[], refusing=True)) as here, here.turn(start()) as turn:
        await turn.rest()
    assert turn.last.reason == error_pb2.ERROR_REASON_PEER_UNAVAILABLE
    assert turn.last.retryable


async def test_a_model_that_nobody_has_ends_the_turn_and_the_catalogue_was_read_anew() -> None:
    llm = ScriptedLlm(steps=[[Say("Hi.")]])
    async with room(llm) as here:
        async with here.turn(start()) as turn:
            await turn.rest()
        options = chat.TurnOptions(model="gone")
        async with here.turn(start(options=options)) as turn:
            await turn.rest()
    assert turn.last.reason == error_pb2.ERROR_REASON_UNKNOWN_MODEL
    assert llm.listed == 2


@pytest.mark.requirement("AGT-3")
async def test_one_action_runs_without_a_model() -> None:
    action = msg.ToolCallPart(call_id="x", action="calculate", arguments_json='{"expression": "0.1+0.2"}')
    llm = ScriptedLlm(steps=[])
    ordered = start(purpose=pb.TURN_PURPOSE_ACTION, action=action)
    async with room(llm) as here, here.turn(ordered) as turn:
        assert await turn.kinds() == ["turn_started", "tool_started", "tool_finished", "turn_finished"]
    assert [part.WhichOneof("content") for part in turn.last.message.parts] == ["tool_call", "tool_result"]
    assert turn.last.message.parts[1].tool_result.content == "0.3"
    assert not llm.opened
    assert not llm.listed


async def test_an_effect_is_asked_for_then_runs_once_after_its_start_is_durable() -> None:
    gate = Gate("send", Effect.EFFECT)
    gate.open.set()
    llm = ScriptedLlm(steps=[[Ask("e", "send")], [Say("Sent.")]])
    async with room(llm, catalogue=Catalogue((gate.tool,))) as here:
        async with here.turn(start()) as turn:
            kinds = await turn.kinds()
            assert kinds == ["turn_started", "approval_requested", "suspended"]
            suspended = turn.frames[-1].suspended
            asked = suspended.pending[0].approval
        assert gate.runs == 0
        answer = chat.ApprovalAnswer(
            approval_id=asked.approval_id,
            decision=chat.APPROVAL_DECISION_APPROVE,
            arguments_sha256=asked.arguments_sha256,
        )
        resumption = suspended.resumption
        resumption.answers.add(pending=suspended.pending[0], approval=answer)
        async with here.turn(start(resumption=resumption, attempt=2)) as turn:
            await turn.until(lambda frame: kind(frame) == "tool_started")
            assert gate.runs == 0
            await turn.send(effect_recorded=pb.EffectRecorded(call_id="e"))
            assert (await turn.kinds())[-1] == "turn_finished"
    assert gate.runs == 1
    assert [part.WhichOneof("content") for part in turn.last.message.parts] == [
        "tool_call",
        "tool_result",
        "text",
    ]
    assert turn.last.usage.input_tokens == 200
    roles = [message.role for message in llm.opened[1].window.messages]
    assert roles == [msg.ROLE_USER, msg.ROLE_ASSISTANT, msg.ROLE_TOOL]


async def test_a_turn_is_given_back_at_a_step_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, heard, receive = Gate(), asyncio.Event(), Turn.receive

    def overheard(self: Turn, told: Input) -> Iterator[effects.Effect]:
        """The machine's own `receive`, which tells the test that the request has arrived."""
        if isinstance(told, YieldRequested):
            heard.set()
        return receive(self, told)

    monkeypatch.setattr(Turn, "receive", overheard)
    llm = ScriptedLlm(steps=[[Ask("a", "wait")]])
    async with room(llm, catalogue=Catalogue((gate.tool,))) as here, here.turn(start()) as turn:
        await soon(gate.began)
        await turn.send(**{"yield": pb.YieldTurn()})
        await turn.send(grants=pb.Grants(llm="fresh"))
        await soon(heard)
        gate.open.set()
        await turn.rest()
    assert kind(turn.frames[-1]) == "suspended"
    assert not turn.frames[-1].suspended.pending
    assert turn.frames[-1].suspended.resumption.counters.calls == 1


async def test_client_supplied_words_never_reach_the_system_text() -> None:
    llm = ScriptedLlm(steps=[[Say("Hi.")], [Say("Hi.")]])
    planted = "PLANTED"
    material = pb.Material(
        messages=[msg.Message(id="m", role=msg.ROLE_USER, parts=[msg.Part(text=planted)])],
        facts=[pb.ContextFact(key="device.name", value_json=f'"{planted}"')],
        manner=pb.Manner(instructions=planted),
        summary=pb.Summary(text=planted, messages=4),
    )
    async with room(llm) as here:
        for ordered in (start(material=material), start()):
            async with here.turn(ordered) as turn:
                await turn.rest()
    windows = [opened.window for opened in llm.opened]
    assert planted not in windows[0].system
    assert windows[0].system == windows[1].system
    facts = windows[0].messages[-1].parts[-1]
    assert planted in facts.text
    assert facts.trust == msg.TRUST_UNTRUSTED


@pytest.mark.requirement("CHAT-5")
async def test_a_model_that_does_not_stop_is_let_go_and_its_step_counted_here() -> None:
    llm = ScriptedLlm(steps=[[Say("Once upon a time"), Hang()]])  # it does not hear that it shall stop
    async with room(llm) as here, here.turn(start()) as turn:
        await turn.until(lambda frame: kind(frame) == "text_delta")
        await turn.send(cancel=pb.CancelTurn())
        steps = [frame.receipt.step for frame in await turn.rest() if frame.receipt.HasField("step")]
        assert kind(turn.frames[-1]) == "turn_cancelled"
        await soon(llm.stopped)
    (step,) = steps
    assert step.usage == turn.last.usage
    assert step.usage.estimated
    assert step.usage.input_tokens > step.usage.output_tokens > 0


async def test_the_first_frame_must_be_start_and_the_only_one() -> None:
    async with room(ScriptedLlm(steps=[[Hang()]])) as here:
        call = rpc.TurnServiceStub(here.channel).RunTurn()
        await call.write(pb.RunTurnRequest(cancel=pb.CancelTurn()))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asyncio.wait_for(call.read(), SOON.total_seconds())
        assert reason_of(refused.value) == "FRAME_UNEXPECTED"
        async with here.turn(start()) as turn:
            await turn.until(lambda frame: kind(frame) == "turn_started")
            await turn.send(start=start())
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await turn.rest()
        assert reason_of(refused.value) == "FRAME_UNEXPECTED"


async def test_a_tool_that_breaks_is_a_failed_call_and_its_words_stay_here() -> None:
    async def perform(arguments: Nothing, setting: Setting) -> Output:
        raise RuntimeError("secret path")

    tool = Tool(
        name="broken",
        description="Breaks.",
        arguments=Nothing,
        perform=perform,
        agent="t",
        effect=Effect.NONE,
    )
    llm = ScriptedLlm(steps=[[Ask("a", "broken")], [Say("Sorry.")]])
    async with room(llm, catalogue=Catalogue((tool,))) as here, here.turn(start()) as turn:
        assert (await turn.kinds())[-1] == "turn_finished"
    assert "secret" not in str(turn.frames)
    assert llm.continued[0].results[0].failed


async def test_many_pieces_reach_a_slow_reader_joined_and_whole() -> None:
    pieces = [Say(f"{number} ") for number in range(2_000)]
    async with room(ScriptedLlm(steps=[pieces])) as here, here.turn(start()) as turn:
        await turn.rest()
    text = "".join(frame.event.text_delta.text for frame in turn.frames if kind(frame) == "text_delta")
    assert text == "".join(piece.text for piece in pieces) == turn.last.message.parts[0].text


@pytest.mark.requirement("AGT-2")
async def test_actions_are_listed_with_the_schema_that_models_get() -> None:
    llm = ScriptedLlm(steps=[[Say("Hi.")]])
    async with room(llm) as here:
        listed = await rpc.TurnServiceStub(here.channel).ListActions(pb.ListActionsRequest(account_id="u1"))
        async with here.turn(start()) as turn:
            await turn.rest()
    offered = {spec.name: spec.parameters_json_schema for spec in llm.opened[0].tools}
    ready = [action for action in listed.actions if action.state == agent_pb2.ACTION_STATE_READY]
    listed_schemas = {action.name: action.parameters_json_schema for action in ready}
    del listed_schemas[find_tools.NAME]  # with so few actions there is nothing to find
    assert listed_schemas == offered
    assert {action.effect_class for action in ready} == {chat.EFFECT_CLASS_NONE}
    assert {action.agent for action in ready} >= {"calculator", "converter", "clock", "memory", "reminders"}


async def test_a_local_default_model_is_warmed_with_the_standing_prefix() -> None:
    llm = ScriptedLlm(steps=[[Say("Hi")], [Say("Hello.")]])
    async with room(llm, warm_up=True) as here:
        await soon(llm.stopped)
        async with here.turn(start()) as turn:
            await turn.rest()
    warm, asked = llm.opened
    assert (warm.turn_id, warm.parameters.max_output_tokens) == ("warm-up", 1)
    assert (warm.window.system, list(warm.tools)) == (asked.window.system, list(asked.tools))
    assert warm.placement == msg.PLACEMENT_LOCAL_ONLY


async def test_a_remote_default_model_is_not_asked_before_anybody_asks() -> None:
    cloud = generation.Model(name="cloud", context_tokens=8_000, tools=True, default=True)
    llm = ScriptedLlm(steps=[[Say("Hello.")]], models=[cloud])
    async with (
        room(llm, warm_up=True, catalogue=Catalogue((CALCULATOR,))) as here,
        here.turn(start()) as turn,
    ):
        await turn.rest()
    assert [opened.turn_id for opened in llm.opened] == ["t1"]
