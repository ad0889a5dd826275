"""A door to talk to: the services `mesh chat` calls, really served, with turns that a test writes down."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.generation.v1 import generation_pb2, generation_pb2_grpc
from assistant.identity.v1 import identity_pb2, identity_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.operator.v1 import operator_pb2, operator_pb2_grpc
from assistant.session.v1 import session_pb2, session_pb2_grpc
from chassis.clock import SystemClock
from mesh import record
from mesh.places import Places, places
from mesh.rooms import operator_socket
from tests.interaction.mesh.site import Site
from tests.interaction.mesh.site import serving as serving_site

Turn = list[chat_pb2.ChatEvent]


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as folder:
        yield Path(folder)


async def refuse(context: grpc.aio.ServicerContext, code: grpc.StatusCode, reason: str, message: str) -> None:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=reason, domain="assistant.mesh"))
    status = Status(code=code.value[0], message=message, details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))


def say(*texts: str, action: str = "") -> Turn:
    """A turn that says these texts, after a call of the action if there is one."""
    bodies: list[dict[str, Any]] = [{"turn_accepted": {}}, {"turn_started": {"model": {"model": "scripted"}}}]
    if action:
        bodies.append(
            {"tool_started": {"call_id": "c1", "action": action, "arguments_json": '{"x": "17*23"}'}}
        )
        bodies.append(
            {
                "tool_finished": {
                    "call_id": "c1",
                    "action": action,
                    "result": "391",
                    "outcome": "TOOL_OUTCOME_DONE",
                }
            }
        )
    bodies += [{"text_delta": {"text": text}} for text in texts]
    whole = message_pb2.Message(parts=[message_pb2.Part(text="".join(texts))], model="scripted")
    bodies.append({"turn_finished": {"message": whole}})
    return events(*bodies)


def events(*bodies: dict[str, Any]) -> Turn:
    return [chat_pb2.ChatEvent(sequence=n, turn_id="t1", **body) for n, body in enumerate(bodies, 1)]


@dataclass
class Door(
    identity_pb2_grpc.IdentityServiceServicer,
    session_pb2_grpc.SessionServiceServicer,
    chat_pb2_grpc.ChatServiceServicer,
    generation_pb2_grpc.GenerationServiceServicer,
    operator_pb2_grpc.OperatorServiceServicer,
):
    """One account, its sessions, and turns in the order they are asked for."""

    turns: list[Turn] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # after so many frames the next stream is cut
    hold: Callable[[chat_pb2.ChatEvent], Any] | None = None  # awaited before each event
    code: str = "set-up"
    account: tuple[str, str] | None = None
    refreshed: int = 0
    access_seconds: int = 600
    refuse_refresh: bool = False
    lose_register: bool = False
    asked: list[chat_pb2.NewMessage] = field(default_factory=list)
    streams: int = 0
    cancelled: list[str] = field(default_factory=list)
    answered: list[chat_pb2.RespondToTurnRequest] = field(default_factory=list)
    sessions: list[session_pb2.Session] = field(default_factory=list)
    edited: list[chat_pb2.EditMessageRequest] = field(default_factory=list)
    again: list[chat_pb2.RegenerateTurnRequest] = field(default_factory=list)
    branches: list[Turn] = field(default_factory=list)
    branch_turns: list[Turn] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    refuse: list[str] = field(default_factory=list)  # reasons to refuse the next messages with

    def tokens(self) -> identity_pb2.TokenSet:
        tokens = identity_pb2.TokenSet(
            access_token=f"access-{self.refreshed}", refresh_token=f"refresh-{self.refreshed}"
        )
        tokens.access_expire_time.FromMicroseconds(SystemClock().now_us() + self.access_seconds * 1_000_000)
        return tokens

    async def Register(self, request: Any, context: Any) -> Any:
        if request.setup_code != self.code:
            await refuse(context, grpc.StatusCode.PERMISSION_DENIED, "SETUP_CODE_WRONG", "Wrong set-up code.")
        self.account, self.code = (request.email, request.password), ""
        if self.lose_register:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")
        return identity_pb2.RegisterResponse(tokens=self.tokens(), device_secret="secret")

    async def Login(self, request: Any, context: Any) -> Any:
        if (request.email, request.password) != self.account:
            await refuse(
                context, grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_WRONG", "Wrong address or password."
            )
        return identity_pb2.LoginResponse(tokens=self.tokens(), device_secret="secret")

    async def RefreshToken(self, request: Any, context: Any) -> Any:
        if self.refuse_refresh or request.refresh_token != f"refresh-{self.refreshed}":
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID", "Sign in again.")
        self.refreshed += 1
        return identity_pb2.RefreshTokenResponse(tokens=self.tokens())

    async def CreateSession(self, request: Any, context: Any) -> Any:
        await self._check(context)
        session = session_pb2.Session(id=request.session_id, title=f"Session {len(self.sessions) + 1}")
        self.sessions.insert(0, session)
        return session_pb2.CreateSessionResponse(session=session)

    async def ListSessions(self, request: Any, context: Any) -> Any:
        await self._check(context)
        return session_pb2.ListSessionsResponse(sessions=self.sessions)

    async def ListModels(self, request: Any, context: Any) -> Any:
        await self._check(context)
        model = generation_pb2.Model(
            name="tiny-1", display_name="Tiny", provider="built-in", local=True, default=True
        )
        model.context_tokens, model.state = 8192, generation_pb2.MODEL_STATE_READY
        return generation_pb2.ListModelsResponse(models=[model])

    async def SendMessage(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._check(context)
        self.streams += 1
        if self.refuse:
            await refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, self.refuse.pop(), "Not now.")
        if request.message not in self.asked:
            self.asked.append(request.message)
        cut = self.cuts.pop(0) if self.cuts else None
        for number, event in enumerate(self.turns[self.asked.index(request.message)]):
            if number == cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            if self.hold is not None:
                await self.hold(event)
            yield chat_pb2.SendMessageResponse(event=event)

    async def EditMessage(self, request: Any, context: Any) -> Any:
        await self._check(context)
        self.edited.append(request)
        return chat_pb2.EditMessageResponse(accepted=self._branched())

    async def RegenerateTurn(self, request: Any, context: Any) -> Any:
        await self._check(context)
        self.again.append(request)
        return chat_pb2.RegenerateTurnResponse(accepted=self._branched())

    async def SubscribeEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._check(context)
        after = request.cursors[0].sequence
        for event in self.branches[-1]:
            if event.sequence > after:
                yield chat_pb2.SubscribeEventsResponse(event=event)

    async def ClearMessages(self, request: Any, context: Any) -> Any:
        await self._check(context)
        self.cleared.append(request.session_id)
        return chat_pb2.ClearMessagesResponse()

    def _branched(self) -> chat_pb2.ChatEvent:
        """Play the next turn under an id of its own, after some events of other turns."""
        other = chat_pb2.ChatEvent(sequence=100, turn_id="other", text_delta=chat_pb2.TextDelta(text="no"))
        turn = self.branch_turns.pop(0)
        for number, event in enumerate(turn, 101):
            event.sequence, event.turn_id = number, f"b{len(self.branches) + 1}"
        self.branches.append([turn[0], other, *turn[1:]])
        return turn[0]

    async def CancelTurn(self, request: Any, context: Any) -> Any:
        await self._check(context)
        self.cancelled.append(request.turn_id)
        return chat_pb2.CancelTurnResponse()

    async def GetTurnReceipt(self, request: Any, context: Any) -> Any:
        await self._check(context)
        receipt = chat_pb2.TurnReceipt(
            turn_id=request.turn_id,
            model=chat_pb2.ModelChoice(model="far-1", provider="afar"),
            usage=message_pb2.Usage(
                input_tokens=1_200, output_tokens=34, cost_micro_usd=1_500, estimated=True
            ),
            calls=[chat_pb2.CallReceipt(action="calculator", outcome=chat_pb2.TOOL_OUTCOME_DONE)],
            egress=[chat_pb2.Egress(destination="afar", content="prompt", bytes=4_096)],
        )
        receipt.latencies.first_token.FromMilliseconds(250)
        receipt.latencies.wait.FromSeconds(75)
        return chat_pb2.GetTurnReceiptResponse(receipt=receipt)

    async def RespondToTurn(self, request: Any, context: Any) -> Any:
        await self._check(context)
        self.answered.append(request)
        return chat_pb2.RespondToTurnResponse()

    async def GetSetupCode(self, request: Any, context: Any) -> Any:
        return operator_pb2.GetSetupCodeResponse(setup_code=self.code, needed=bool(self.code))

    async def GetStatus(self, request: Any, context: Any) -> Any:
        room = operator_pb2.RoomStatus(
            name="context_svc", version="0.1.0", health=operator_pb2.ROOM_HEALTH_SERVING, open_streams=7
        )
        return operator_pb2.GetStatusResponse(version="0.1.0", running_turns=2, rooms=[room])

    async def _check(self, context: grpc.aio.ServicerContext) -> None:
        sent = dict(context.invocation_metadata() or ()).get("authorization")
        if sent != f"Bearer access-{self.refreshed}":
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", "The token is not valid.")


@pytest.fixture
def where(short: Path) -> Places:
    made = places(short / "d", runtime=short)
    made.make()
    return made


@pytest.fixture
async def door(where: Places) -> AsyncIterator[Door]:
    """The door of a running mesh: its public port, its operator socket and its record."""
    door, server = Door(), grpc.aio.server()
    identity_pb2_grpc.add_IdentityServiceServicer_to_server(door, server)
    session_pb2_grpc.add_SessionServiceServicer_to_server(door, server)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(door, server)
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(door, server)
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(door, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port(f"unix:{operator_socket(where)}")
    await server.start()
    with record.owned(where):
        record.write(
            where,
            record.Record(pid=1, run=str(where.run), bind="127.0.0.1", port=port, model="scripted", rooms={}),
        )
        yield door
    await server.stop(None)


@pytest.fixture
def site() -> Iterator[Site]:
    """A web site with one file."""
    with serving_site() as here:
        yield here
