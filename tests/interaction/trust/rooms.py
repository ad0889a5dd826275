"""The four rooms as they are, in one process: real keys, real sockets, the scripted model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.generation.v1 import generation_pb2, generation_pb2_grpc
from assistant.identity.v1 import identity_pb2
from assistant.identity.v1.identity_pb2_grpc import IdentityServiceStub
from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.operator.v1 import operator_pb2
from assistant.operator.v1.operator_pb2_grpc import OperatorServiceStub
from assistant.session.v1 import session_pb2
from assistant.session.v1.session_pb2_grpc import SessionServiceStub
from chassis import ids
from chassis.auth import RoomIdentity, room_issuer
from chassis.certificates import Certificates
from chassis.clock import Clock, SystemClock
from chassis.keys import load_or_create_key
from chassis.status import from_rpc_error
from chassis.tokens import Signer
from context_svc.app import open_app
from context_svc.settings import ContextSettings
from context_svc.signing import UserKeys
from llm_svc.app import app as llm
from llm_svc.settings import Settings as LlmSettings
from media_svc.app import app as media
from media_svc.settings import Settings as MediaSettings
from mesh import authority, keys
from orchestrator_svc.app import app as orchestrator
from orchestrator_svc.settings import Settings as OrchestratorSettings

PASSWORD = "a long enough sentence"
ROOMS = ("context", "orchestrator", "llm", "media")
LOCAL = [("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A signed-in device."""

    account: str
    email: str
    device_id: str
    tokens: identity_pb2.TokenSet

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self.tokens.access_token)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with this token."""
    return (("authorization", f"Bearer {token}"),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """The running rooms and a bare channel to each; `operator` is context_svc's other socket."""

    folder: Path
    sockets: Path
    clock: Clock
    channels: Mapping[str, grpc.aio.Channel]

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def signing(self) -> UserKeys:
        """What context_svc signs with."""
        return UserKeys.load_or_create(self.keys / "users")

    def identity(self, room: str) -> RoomIdentity:
        """A room's own name and key."""
        key = load_or_create_key(self.keys / f"{room}.key")
        return RoomIdentity(room, Signer(key, room_issuer(room), room_issuer(room)), self.clock)

    def as_room(self, room: str, callee: str) -> tuple[tuple[str, str], ...]:
        """The metadata of a call of one room to another."""
        return bearer(self.identity(room).token(callee))

    @property
    def accounts(self) -> Any:
        return IdentityServiceStub(self.channels["context"])

    @property
    def sessions(self) -> Any:
        return SessionServiceStub(self.channels["context"])

    @property
    def chat(self) -> Any:
        return chat_pb2_grpc.ChatServiceStub(self.channels["context"])

    @property
    def operator(self) -> Any:
        return OperatorServiceStub(self.channels["operator"])

    async def register(self, email: str = "anna@example.org", **changes: Any) -> Person:
        """A new account with its first device."""
        code = await self.operator.GetSetupCode(operator_pb2.GetSetupCodeRequest())
        if code.setup_code:
            changes.setdefault("setup_code", code.setup_code)
        else:
            invite = await self.operator.CreateInvite(operator_pb2.CreateInviteRequest(request_id=ids.uuid()))
            changes.setdefault("invite_code", invite.invite_code)
        request = identity_pb2.RegisterRequest(
            **{
                "request_id": ids.uuid(),
                "email": email,
                "display_name": "Anna",
                "password": PASSWORD,
                "device": device(),
                **changes,
            }
        )
        answer = await self.accounts.Register(request)
        return Person(
            account=answer.account.id,
            email=email,
            device_id=request.device.device_id,
            tokens=answer.tokens,
        )

    async def log_in(self, person: Person, password: str = PASSWORD) -> Person:
        """The same person at another device."""
        request = identity_pb2.LoginRequest(email=person.email, password=password, device=device())
        answer = await self.accounts.Login(request)
        return Person(
            account=answer.account.id,
            email=person.email,
            device_id=request.device.device_id,
            tokens=answer.tokens,
        )

    async def session(self, person: Person, title: str = "") -> str:
        """A new session."""
        request = session_pb2.CreateSessionRequest(session_id=ids.uuid(), title=title)
        answer = await self.sessions.CreateSession(request, metadata=person.metadata)
        session_id: str = answer.session.id
        return session_id

    async def upload(self, person: Person, data: bytes, name: str = "notes.txt") -> str:
        """A file."""
        header = media_pb2.UploadHeader(
            request_id=ids.uuid(),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            file_name=name,
        )
        stub: Any = media_pb2_grpc.MediaServiceStub(self.channels["media"])
        frames = [media_pb2.UploadMediaRequest(header=header), media_pb2.UploadMediaRequest(chunk=data)]
        answer = await stub.UploadMedia(iter(frames), metadata=person.metadata)
        media_id: str = answer.media.id
        return media_id

    async def say(self, person: Person, session: str, text: str) -> list[chat_pb2.ChatEvent]:
        """A message, and everything up to the end of its turn."""
        message = chat_pb2.NewMessage(
            session_id=session, client_message_id=ids.uuid(), parts=[message_pb2.Part(text=text)]
        )
        request = chat_pb2.SendMessageRequest(message=message, follow=True)
        call = self.chat.SendMessage(request, metadata=person.metadata, timeout=20)
        return [frame.event async for frame in call]


def device(name: str = "Terminal") -> identity_pb2.DeviceInfo:
    """A new terminal."""
    return identity_pb2.DeviceInfo(
        device_id=ids.uuid(),
        name=name,
        platform=identity_pb2.DEVICE_PLATFORM_TERMINAL,
        app_version="1",
    )


@asynccontextmanager
async def running(
    folder: Path,
    sockets: Path,
    *,
    clock: Clock | None = None,
    ports: Mapping[str, int] = {},
    context: Mapping[str, Any] = {},
    llm_options: Mapping[str, Any] = {},
) -> AsyncIterator[Mesh]:
    """The rooms serve, and llm_svc and media_svc have heard the feed."""
    clock = clock or SystemClock()
    where = {name: f"unix:{sockets}/{name}.sock" for name in (*ROOMS, "operator")}
    where |= {name: f"localhost:{port}" for name, port in ports.items()}
    tls = folder / "keys/tls"
    (folder / "keys").mkdir(mode=0o700, exist_ok=True)
    keys.ensure(folder / "keys")
    same: dict[str, Any] = {"keys_dir": folder / "keys"}
    if ports:
        authority.ensure(tls)
        same["tls_dir"] = tls
    async with AsyncExitStack() as stack:
        settings = ContextSettings.model_validate(
            {
                **same,
                "listen": where["context"],
                "operator_listen": where["operator"],
                "orchestrator": where["orchestrator"],
                "media": where["media"],
                "data_dir": folder,
                **context,
            }
        )
        await stack.enter_async_context(open_app(settings, clock=clock))
        model = LlmSettings(
            **same,
            listen=where["llm"],
            context=where["context"],
            data_dir=folder,
            script="true",
            **llm_options,
        )
        await stack.enter_async_context(llm(model, clock=clock))
        agent = OrchestratorSettings(**same, listen=where["orchestrator"], llm=where["llm"], warm_up=False)
        await stack.enter_async_context(orchestrator(agent, clock=clock))
        files = MediaSettings(**same, listen=where["media"], context=where["context"], data_dir=folder)
        await stack.enter_async_context(media(files, clock=clock))
        channels = {
            name: await stack.enter_async_context(_channel(address, name, tls))
            for name, address in where.items()
        }
        mesh = Mesh(folder=folder, sockets=sockets, clock=clock, channels=channels)
        await _heard(mesh)
        yield mesh


def _channel(address: str, callee: str, tls: Path) -> grpc.aio.Channel:
    """As the edge dials a room."""
    if address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, LOCAL)
    shown = Certificates.read(tls, "envoy").for_channel()
    return grpc.aio.secure_channel(address, shown, [*LOCAL, ("grpc.ssl_target_name_override", callee)])


async def _heard(mesh: Mesh) -> None:
    """Return when the rooms that follow the feed have its first frame."""
    models: Any = generation_pb2_grpc.GenerationServiceStub(mesh.channels["llm"])
    files: Any = media_pb2_grpc.MediaServiceStub(mesh.channels["media"])
    calls = (
        (models.ListModels, generation_pb2.ListModelsRequest()),
        (files.ListMedia, media_pb2.ListMediaRequest()),
    )
    async with asyncio.timeout(20):
        for call, request in calls:
            while await reason(call(request, metadata=bearer("none"))) == "REVOCATION_FEED_LOST":  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def reason(call: Any) -> str:
    """Why a call was refused; empty when it was not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason or error.code().name
    return ""
