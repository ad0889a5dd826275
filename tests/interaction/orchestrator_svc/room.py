"""The real room on a socket of its own, a scripted llm_svc behind it, and a caller in context_svc's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc

from assistant.message.v1 import message_pb2 as msg
from assistant.turn.v1 import turn_pb2 as pb
from assistant.turn.v1 import turn_pb2_grpc as rpc
from chassis.boundary import Boundary
from chassis.call import RoomCaller
from chassis.clock import Clock
from chassis.health import Health
from chassis.serve import serving
from chassis.testing import SOON, Everyone, socket_directory
from orchestrator_svc.app import app
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.settings import Settings
from tests.interaction.orchestrator_svc.scripted_llm import POLICIES, ScriptedLlm


@dataclass
class Conversation:
    """One RunTurn stream, as context_svc holds it."""

    call: Any
    frames: list[pb.RunTurnResponse] = field(default_factory=list)

    async def send(self, **frame: Any) -> None:
        """Send a frame."""
        await self.call.write(pb.RunTurnRequest(**frame))

    async def until(self, wanted: Callable[[pb.RunTurnResponse], bool]) -> pb.RunTurnResponse:
        """Read on to the first frame that is wanted."""
        async with asyncio.timeout(SOON.total_seconds()):
            while True:
                frame = await self.call.read()
                seen = [kind(each) for each in self.frames]
                assert isinstance(frame, pb.RunTurnResponse), f"the stream ended after {seen}"
                self.frames.append(frame)
                if wanted(frame):
                    return frame

    async def rest(self) -> list[pb.RunTurnResponse]:
        """Read to the end; answer every frame of the stream."""
        async with asyncio.timeout(SOON.total_seconds()):
            while (frame := await self.call.read()) is not grpc.aio.EOF:
                self.frames.append(frame)
        return self.frames

    async def kinds(self) -> list[str]:
        """The kinds of all frames but receipts, to the end; pieces of text as one."""
        found: list[str] = []
        for frame in await self.rest():
            name = kind(frame)
            if name != "receipt" and not (name == "text_delta" and found and found[-1] == name):
                found.append(name)
        return found

    @property
    def last(self) -> Any:
        """The event that ended the turn."""
        event = self.frames[-1].event
        return getattr(event, str(event.WhichOneof("event")))


def kind(frame: pb.RunTurnResponse) -> str:
    """What a frame carries; of an event, which."""
    name = frame.WhichOneof("frame")
    return str(frame.event.WhichOneof("event") if name == "event" else name)


@dataclass
class Room:
    """The room's channel, and its address for a real context_svc."""

    channel: grpc.aio.Channel
    address: str

    @asynccontextmanager
    async def turn(self, start: pb.StartTurn) -> AsyncIterator[Conversation]:
        """A turn that was ordered; leaving the block breaks its stream."""
        call = rpc.TurnServiceStub(self.channel).RunTurn()
        try:
            await call.write(pb.RunTurnRequest(start=start))
            yield Conversation(call)
        finally:
            call.cancel()


@asynccontextmanager
async def room(
    llm: ScriptedLlm, *, clock: Clock | None = None, catalogue: Catalogue | None = None, warm_up: bool = False
) -> AsyncIterator[Room]:
    """The room and its llm_svc, both served over unix sockets."""
    with socket_directory() as folder:
        keys = folder / "k"
        keys.mkdir()
        here, there = f"unix:{folder}/o.sock", f"unix:{folder}/l.sock"
        boundary = Boundary(policies=POLICIES, authenticator=Everyone(), domain="assistant.mesh")
        peer = serving(
            addresses=[there], services=[llm.register], service_names=[], boundary=boundary, health=Health()
        )
        settings = Settings(listen=here, llm=there, keys_dir=keys, warm_up=warm_up)
        caller = Everyone(RoomCaller(name="context"))
        async with (
            peer,
            app(settings, clock=clock, authenticator=caller, catalogue=catalogue) as server,
            grpc.aio.insecure_channel(here, [("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            try:
                yield Room(channel, here)
            finally:
                await server.stop(timedelta(0))


def start(say: str = "hi", **rest: Any) -> pb.StartTurn:
    """An order to answer one message."""
    said = msg.Message(id="m1", role=msg.ROLE_USER, parts=[msg.Part(text=say)])
    fields: dict[str, Any] = {
        "turn_id": "t1",
        "session_id": "s1",
        "account_id": "u1",
        "answer_id": "a1",
        "attempt": 1,
        "material": pb.Material(messages=[said]),
        "budget": pb.Budget(),
    }
    return pb.StartTurn(**{**fields, **rest})
