"""The conversation half of context_svc with the real agent loop behind it, over a scripted model and chosen actions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from assistant.chat.v1 import chat_pb2
from chassis import ids
from chassis.clock import Clock, SystemClock
from chassis.database import Database
from chassis.serve import Register
from chassis.testing import serve_for_test
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.conversation import NextAction
from orchestrator_svc.peers import LlmModels
from orchestrator_svc.servicer import TurnServicer
from orchestrator_svc.tools.clock import CLOCK
from orchestrator_svc.tools.hosted import HOSTED
from orchestrator_svc.tools.tool import Effect, Output, Question, Setting, Tool
from orchestrator_svc.turns import Turns
from tests.interaction.context_svc.conversation_room import Room, room
from tests.interaction.orchestrator_svc.scripted_llm import POLICIES, ScriptedLlm, Step

FORM = '{"type":"object","properties":{"size":{"type":"integer"}},"required":["size"]}'


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """What to write down."""

    text: str


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No arguments."""


class Pause(msgspec.Struct, forbid_unknown_fields=True):
    """Why to wait: a model that asks the same twice is told what it knows."""

    reason: str = ""


@dataclass
class World:
    """The world that actions change: a file with one line for each effect. `gate` holds an effect back."""

    file: Path
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def effects(self) -> list[str]:
        """What happened in the world, in order."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    async def _write(self, line: Line, setting: Setting) -> Output:
        self.entered.set()
        with self.file.open("a") as world:
            world.write(f"{line.text}\n")
        setting.progress("written", 0.5)
        await self.gate.wait()
        more = (NextAction(action="hold"),) if line.text == "hello, and hold" else ()
        return Output(content="written", next_actions=more)

    async def _hold(self, arguments: Pause, setting: Setting) -> Output:
        self.entered.set()
        await self.gate.wait()
        return Output(content="held")

    async def _ask(self, arguments: Nothing, setting: Setting) -> Output:
        raise Question("Which size?", FORM)

    @property
    def actions(self) -> tuple[Tool[Any], ...]:
        """One with an effect, one that asks the person, two that do neither."""
        return (
            CLOCK,
            *HOSTED,
            Tool(
                name="write",
                description="Writes a line into the world.",
                arguments=Line,
                perform=self._write,
                agent="pen",
                effect=Effect.EFFECT,
            ),
            Tool(
                name="hold",
                description="Waits for the test.",
                arguments=Pause,
                perform=self._hold,
                agent="test",
                effect=Effect.NONE,
            ),
            Tool(
                name="ask_size",
                description="Asks the person for a size.",
                arguments=Nothing,
                perform=self._ask,
                agent="form",
                effect=Effect.NONE,
            ),
        )


@asynccontextmanager
async def agent_room(
    database: Database,
    world: World,
    steps: Sequence[Step],
    *,
    owner: str | None = None,
    background: bool = False,
    clock: Clock | None = None,
    address: str = "",
    model: Register | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Room, ScriptedLlm]]:
    """The room, its agent loop and its model, or another one that serves in its place."""
    llm = ScriptedLlm(steps=list(steps))
    clock = clock or SystemClock()
    async with serve_for_test(model or llm.register, policies=POLICIES) as channel:
        catalogue = Catalogue(world.actions)
        models = LlmModels(channel, clock)
        turns = Turns(models=models, catalogue=catalogue, clock=clock)
        orchestrator = TurnServicer(turns, catalogue, models)
        async with room(
            database,
            orchestrator,  # type: ignore[arg-type]
            owner,
            background=background,
            clock=clock,
            address=address,
            **settings,
        ) as here:
            yield here, llm


def approve(
    session: str, asked: chat_pb2.ChatEvent, request_id: str | None = None, **changes: Any
) -> chat_pb2.RespondToTurnRequest:
    """The answer yes to an ApprovalRequested, or another one by `changes`."""
    request = asked.approval_requested
    fields: dict[str, Any] = {
        "approval_id": request.approval_id,
        "decision": chat_pb2.APPROVAL_DECISION_APPROVE,
        "arguments_sha256": request.arguments_sha256,
        **changes,
    }
    return chat_pb2.RespondToTurnRequest(
        session_id=session,
        turn_id=asked.turn_id,
        request_id=request_id or ids.uuid(),
        approval=chat_pb2.ApprovalAnswer(**fields),
    )
