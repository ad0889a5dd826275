"""A client that does what a phone does: makes ids, sends until it is told, reads on from where it was. It notes all."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.identity.v1 import identity_pb2, identity_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.operator.v1 import operator_pb2, operator_pb2_grpc
from assistant.session.v1 import session_pb2, session_pb2_grpc
from chassis import ids
from chassis.dial import streaming
from tests.crossed import CROSSED
from tests.robustness.checker import ENDINGS, Event, History, Reading

PASSWORD = "a long enough sentence"
T = TypeVar("T")
LATER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 300),
]


def said(text: str) -> str:
    """What the scripted model answers."""
    return f"You said: {text}"


@dataclass(kw_only=True)
class Told:
    """What one session's clients were told."""

    tried: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    replies: defaultdict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    readings: list[Reading] = field(default_factory=list)


class Device:
    """One signed-in device, on a channel of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, _OPTIONS)
        self.tokens = identity_pb2.TokenSet()
        self.device_id = ids.uuid()
        self.refused: list[grpc.StatusCode] = []

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.tokens.access_token}"),)

    @property
    def chat(self) -> chat_pb2_grpc.ChatServiceStub:
        return chat_pb2_grpc.ChatServiceStub(self.channel)

    @property
    def sessions(self) -> session_pb2_grpc.SessionServiceStub:
        return session_pb2_grpc.SessionServiceStub(self.channel)

    @property
    def identity(self) -> identity_pb2_grpc.IdentityServiceStub:
        return identity_pb2_grpc.IdentityServiceStub(self.channel)

    async def redial(self, address: str = "") -> None:
        """A new connection, to another door when one is named."""
        await self.channel.close()
        self.address = address or self.address
        self.channel = grpc.aio.insecure_channel(self.address, _OPTIONS)

    async def insist(self, call: Callable[[], Awaitable[T]], *, within: float = 60) -> T:
        """Ask until it is answered. What is not worth another try is raised."""
        async with asyncio.timeout(within):
            while True:
                try:
                    return await call()
                except grpc.aio.AioRpcError as error:
                    self.refused.append(error.code())
                    cut = "RST_STREAM" in (error.details() or "") or error.details() == CROSSED
                    if error.code() not in LATER and not cut:
                        raise
                    await asyncio.sleep(0.05)

    async def register(self, operator: str, email: str = "anna@example.org") -> None:
        """The first account of a mesh."""
        async with grpc.aio.insecure_channel(operator, _OPTIONS) as channel:
            stub = operator_pb2_grpc.OperatorServiceStub(channel)
            code = (await stub.GetSetupCode(operator_pb2.GetSetupCodeRequest())).setup_code
        request = identity_pb2.RegisterRequest(
            request_id=ids.uuid(),
            email=email,
            display_name="Anna",
            password=PASSWORD,
            device=self._info(),
            setup_code=code,
        )
        self.tokens = (await self.insist(lambda: self.identity.Register(request, timeout=5))).tokens

    async def log_in(self, email: str = "anna@example.org") -> None:
        """Sign in, as a device nobody knows."""
        request = identity_pb2.LoginRequest(email=email, password=PASSWORD, device=self._info())
        self.tokens = (await self.insist(lambda: self.identity.Login(request, timeout=5))).tokens

    async def refresh(self) -> None:
        """The next tokens."""
        request = identity_pb2.RefreshTokenRequest(
            refresh_token=self.tokens.refresh_token, device_id=self.device_id
        )
        self.tokens = (await self.insist(lambda: self.identity.RefreshToken(request, timeout=5))).tokens

    async def new_session(self) -> str:
        """A session under an id of this device's making."""
        request = session_pb2.CreateSessionRequest(session_id=ids.uuid())
        await self.insist(lambda: self.sessions.CreateSession(request, metadata=self.metadata, timeout=5))
        return request.session_id

    def message(self, session: str, text: str, **more: Any) -> chat_pb2.SendMessageRequest:
        """A new message, as it is sent and sent again."""
        return chat_pb2.SendMessageRequest(
            message=chat_pb2.NewMessage(
                session_id=session,
                client_message_id=ids.uuid(),
                parts=[message_pb2.Part(text=text)],
                **more,
            )
        )

    async def send(self, request: chat_pb2.SendMessageRequest, told: Told) -> None:
        """Send once; the acknowledgement is noted. Raises AioRpcError."""
        name = request.message.client_message_id
        told.tried.add(name)
        async with streaming(self.chat.SendMessage(request, metadata=self.metadata, timeout=5)) as call:
            async for frame in call:
                if frame.event.HasField("turn_accepted"):
                    told.acknowledged.add(name)
                    told.replies[name].append(plain(frame.event))

    async def say(self, session: str, text: str, told: Told, **more: Any) -> str:
        """Send until it is acknowledged; the message's id."""
        request = self.message(session, text, **more)
        await self.insist(lambda: self.send(request, told))
        return request.message.client_message_id

    async def log(self, session: str) -> list[Event]:
        """The whole log as it is stored now."""
        events: list[Event] = []
        after = 0
        while True:
            request = chat_pb2.ListEventsRequest(session_id=session, after_sequence=after, page_size=1000)
            page = await self.insist(
                lambda request=request: self.chat.ListEvents(request, metadata=self.metadata, timeout=10)  # type: ignore[misc]
            )
            events += [plain(event) for event in page.events]
            after = page.next.sequence
            if page.at_end:
                return events

    async def settled(self, session: str, *, within: float = 60) -> list[Event]:
        """The log once every accepted turn of it is over, or as it is after `within` seconds."""
        until = asyncio.get_running_loop().time() + within
        while True:
            events = await self.log(session)
            accepted = sum("turnAccepted" in event for event in events)
            over = sum(any(ending in event for ending in ENDINGS) for event in events)
            if over >= accepted or asyncio.get_running_loop().time() > until:
                return events
            await asyncio.sleep(0.1)

    async def history(self, session: str, told: Told, *, within: float = 60) -> History:
        """What the checker reads, once every accepted turn is over."""
        return History(
            session_id=session,
            acknowledged=frozenset(told.acknowledged),
            tried=frozenset(told.tried),
            log=await self.settled(session, within=within),
            replies=told.replies,
            readings=told.readings,
        )

    async def close(self) -> None:
        """Hang up."""
        await self.channel.close()

    def _info(self) -> identity_pb2.DeviceInfo:
        return identity_pb2.DeviceInfo(
            device_id=self.device_id,
            name="Phone",
            platform=identity_pb2.DEVICE_PLATFORM_TERMINAL,
            app_version="1",
        )


class Reader:
    """A stream of one session that is opened again and again, each time from where it was; "" is all of them."""

    def __init__(self, device: Device, session: str, name: str = "reader") -> None:
        self.device = device
        self._session = session
        self._epoch = ""
        self._at = 0
        self._name = name
        self.frames: list[Event] = []
        self.cuts = 0
        self.moved = asyncio.Event()
        self.opened = asyncio.Event()

    @property
    def at(self) -> int:
        """The last sequence it has."""
        return self._at

    def reading(self) -> Reading:
        """What it got in all."""
        return Reading(reader=self._name, frames=tuple(self.frames))

    async def run(self) -> None:
        """Read until cancelled, over any number of cuts."""
        while True:
            with suppress(grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError):
                await self._read()
            self.cuts += 1
            await asyncio.sleep(0.02)

    async def _read(self) -> None:
        cursor = session_pb2.SessionCursor(session_id=self._session, log_epoch=self._epoch, sequence=self._at)
        request = chat_pb2.SubscribeEventsRequest(
            cursors=[cursor] if self._session else [], all_sessions=not self._session
        )
        device = self.device
        async with streaming(device.chat.SubscribeEvents(request, metadata=device.metadata)) as call:
            async for frame in call:
                self.opened.set()
                self._take(frame)

    def _take(self, frame: chat_pb2.SubscribeEventsResponse) -> None:
        match frame.WhichOneof("frame"):
            case "event":
                self.frames.append(plain(frame.event))
                self._at = frame.event.sequence
            case "snapshot":
                self.frames.append({"snapshot": plain(frame.snapshot)})
                self._at, self._epoch = frame.snapshot.through.sequence, frame.snapshot.through.log_epoch
            case _:
                return
        self.moved.set()

    async def reach(self, sequence: int, *, within: float = 30) -> None:
        """Return when it has everything up to `sequence`."""
        async with asyncio.timeout(within):
            while self._at < sequence:
                self.moved.clear()
                await self.moved.wait()


def plain(message: Any) -> Event:
    """ProtoJSON."""
    return dict(MessageToDict(message))


@asynccontextmanager
async def device(address: str, operator: str = "", *, email: str = "") -> AsyncIterator[Device]:
    """A device that is signed in; with `operator` it is the first of the mesh."""
    made = Device(address)
    try:
        if operator:
            await made.register(operator)
        else:
            await made.log_in(*([email] if email else []))
        yield made
    finally:
        await made.close()
