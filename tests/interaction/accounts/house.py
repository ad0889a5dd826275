"""context_svc and media_svc as they run together, with a played orchestrator: everything that keeps a person's data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from pydantic import SecretStr

from assistant.agent.v1.agent_pb2_grpc import AgentServiceStub
from assistant.chat.v1 import chat_pb2
from assistant.chat.v1.chat_pb2_grpc import ChatServiceStub
from assistant.context.v1.context_pb2_grpc import ContextServiceStub
from assistant.identity.v1 import identity_pb2
from assistant.identity.v1.identity_pb2_grpc import IdentityServiceStub
from assistant.media.v1 import media_pb2
from assistant.media.v1.media_pb2_grpc import MediaServiceStub
from assistant.message.v1 import message_pb2
from assistant.operator.v1 import operator_pb2
from assistant.operator.v1.operator_pb2_grpc import OperatorServiceStub
from assistant.reminder.v1.reminder_pb2_grpc import ReminderServiceStub
from assistant.session.v1 import session_pb2
from assistant.session.v1.session_pb2_grpc import SessionServiceStub
from assistant.turn.v1 import turn_pb2_grpc
from chassis import engines, ids
from chassis.auth import room_issuer
from chassis.boundary import Boundary
from chassis.clock import SystemClock
from chassis.database import Statement, Unit
from chassis.health import Health
from chassis.keys import load_or_create_key, to_jwk
from chassis.serve import serving
from chassis.testing import Everyone
from context_svc.app import open_app
from context_svc.settings import ContextSettings
from media_svc.app import app as open_media
from media_svc.settings import Settings as MediaSettings
from tests.interaction.context_svc.conversation_room import TURN_POLICIES, PlayedOrchestrator, caller

PASSWORD = "a long enough sentence"
LOCAL = [("grpc.use_local_subchannel_pool", 1)]
ROOMS = ("context", "orchestrator", "llm", "media")


class Hurried(SystemClock):
    """The real time, in which whoever sleeps is woken ten times as early: what looks around each second is quick."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 10)


@dataclass(kw_only=True, slots=True)
class House:
    """One mesh's folder, sockets and databases; its rooms are started and stopped by the test."""

    folder: Path
    sockets: Path
    database: str = ""
    orchestrator: PlayedOrchestrator = field(default_factory=PlayedOrchestrator)
    clock: SystemClock = field(default_factory=Hurried)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sockets.mkdir(parents=True, exist_ok=True)
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700)
        publics = [
            to_jwk(room_issuer(name), load_or_create_key(keys / f"{name}.key").public_key()) for name in ROOMS
        ]
        (keys / "rooms.jwks").write_text(json.dumps({"keys": publics}))

    def address(self, room: str) -> str:
        return f"unix:{self.sockets}/{room}.sock"

    def settings(self, **changes: Any) -> ContextSettings:
        """What context_svc is started with."""
        return ContextSettings.model_validate(
            {
                "listen": self.address("context"),
                "operator_listen": self.address("operator"),
                "orchestrator": self.address("orchestrator"),
                "media": self.address("media"),
                "data_dir": self.folder,
                "keys_dir": self.folder / "keys",
                "database": self.database,
                "open_registration": True,
                **changes,
            }
        )

    async def column(self, table: str, name: str) -> list[Any]:
        """A column of what context_svc keeps, while it does not run."""

        def asked() -> Unit[list[Any]]:
            rows = yield Statement(f"SELECT {name} FROM {table}")
            return [row[name] for row in rows]

        where = self.settings()
        async with engines.connect(where.database_url, schema=where.database_schema) as database:
            return await database.read(asked)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Mesh]:
        """All of it."""
        async with self.context() as mesh, self.media():
            yield mesh

    @asynccontextmanager
    async def context(self, **changes: Any) -> AsyncIterator[Mesh]:
        """context_svc and the orchestrator it dials."""
        settings = self.settings(**changes)
        boundary = Boundary(policies=TURN_POLICIES, authenticator=Everyone(caller()), domain="assistant.mesh")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                serving(
                    addresses=[self.address("orchestrator")],
                    services=[
                        lambda server: turn_pb2_grpc.add_TurnServiceServicer_to_server(
                            self.orchestrator, server
                        )
                    ],
                    service_names=[],
                    boundary=boundary,
                    health=Health(),
                    grace=timedelta(0),
                )
            )
            await stack.enter_async_context(open_app(settings, clock=self.clock))
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, LOCAL))
                for address in (settings.listen, settings.operator_listen, self.address("media"))
            ]
            yield Mesh(
                house=self,
                clock=self.clock,
                open=channels[0],
                operator=OperatorServiceStub(channels[1]),
                files=channels[2],
            )

    @asynccontextmanager
    async def media(self) -> AsyncIterator[None]:
        """media_svc, which hears context_svc's feed soon."""
        settings = MediaSettings(
            listen=self.address("media"),
            context=self.address("context"),
            keys_dir=self.folder / "keys",
            data_dir=self.folder,
            database=SecretStr(self.database),
        )
        async with open_media(settings):
            yield


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """What a test does with a house whose context_svc runs."""

    house: House
    clock: SystemClock
    open: grpc.aio.Channel
    operator: OperatorServiceStub
    files: grpc.aio.Channel

    async def register(self, email: str, name: str = "Anna", device: str = "Terminal") -> Person:
        code = (await self.operator.GetSetupCode(operator_pb2.GetSetupCodeRequest())).setup_code
        request = identity_pb2.RegisterRequest(
            request_id=ids.uuid(),
            email=email,
            display_name=name,
            password=PASSWORD,
            device=identity_pb2.DeviceInfo(
                device_id=ids.uuid(),
                name=device,
                platform=identity_pb2.DEVICE_PLATFORM_TERMINAL,
                app_version="1",
            ),
        )
        if code:
            request.setup_code = code
        answer = await IdentityServiceStub(self.open).Register(request)
        return Person(
            account=answer.account.id,
            email=email,
            metadata=(("authorization", f"Bearer {answer.tokens.access_token}"),),
            mesh=self,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody signed in; every call carries their token."""

    account: str
    email: str
    metadata: tuple[tuple[str, str], ...]
    mesh: Mesh

    @property
    def identity(self) -> Any:
        return Signed(IdentityServiceStub(self.mesh.open), self.metadata)

    @property
    def sessions(self) -> Any:
        return Signed(SessionServiceStub(self.mesh.open), self.metadata)

    @property
    def context(self) -> Any:
        return Signed(ContextServiceStub(self.mesh.open), self.metadata)

    @property
    def chat(self) -> Any:
        return Signed(ChatServiceStub(self.mesh.open), self.metadata)

    @property
    def agent(self) -> Any:
        return Signed(AgentServiceStub(self.mesh.open), self.metadata)

    @property
    def reminders(self) -> Any:
        return Signed(ReminderServiceStub(self.mesh.open), self.metadata)

    @property
    def media(self) -> Any:
        return Signed(MediaServiceStub(self.mesh.files), self.metadata)

    async def session(self, title: str) -> str:
        request = session_pb2.CreateSessionRequest(session_id=ids.uuid(), title=title)
        answer: session_pb2.CreateSessionResponse = await self.sessions.CreateSession(request)
        return answer.session.id

    async def say(self, session: str, text: str, *parts: message_pb2.Part) -> list[chat_pb2.ChatEvent]:
        """Send a message and follow its turn to the end."""
        message = chat_pb2.NewMessage(
            session_id=session,
            client_message_id=ids.uuid(),
            parts=[message_pb2.Part(text=text), *parts],
        )
        request = chat_pb2.SendMessageRequest(message=message, follow=True)
        call = self.chat.SendMessage(request, timeout=30)
        return [frame.event async for frame in call if frame.WhichOneof("frame") == "event"]

    async def upload(self, data: bytes, file_name: str) -> media_pb2.Media:
        header = media_pb2.UploadHeader(
            request_id=ids.uuid(),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            file_name=file_name,
        )

        def frames() -> Iterator[media_pb2.UploadMediaRequest]:
            yield media_pb2.UploadMediaRequest(header=header)
            for at in range(0, len(data), 262_144):
                yield media_pb2.UploadMediaRequest(chunk=data[at : at + 262_144])

        answer: media_pb2.UploadMediaResponse = await self.media.UploadMedia(frames(), wait_for_ready=True)
        return answer.media

    async def delete(self, password: str = PASSWORD) -> None:
        request = identity_pb2.DeleteAccountRequest(request_id=ids.uuid(), password=password)
        await self.identity.DeleteAccount(request)


class Signed:
    """A stub whose every call carries a person's token."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._stub, method)
        return lambda *given, **more: call(*given, metadata=self._metadata, **more)
