"""media_svc on its socket with what it needs around it: room keys, people's tokens, context_svc's feed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from assistant.identity.v1 import identity_pb2, identity_pb2_grpc
from assistant.knowledge.v1 import knowledge_pb2_grpc
from assistant.media.v1 import media_pb2 as pb
from assistant.media.v1 import media_pb2_grpc as rpc
from chassis import ids
from chassis.access import Audience, Policy
from chassis.auth import GRANT, Authenticator, Revocations, RoomIdentity, room_issuer
from chassis.boundary import Boundary
from chassis.clock import SystemClock
from chassis.dial import open_channel
from chassis.health import Health
from chassis.keys import KeySet, load_or_create_key, to_jwk
from chassis.serve import serving
from chassis.status import Failure, from_rpc_error
from chassis.tokens import GRANT_TOKEN, ROOM_TOKEN, Signer, Verifier
from media_svc.app import app
from media_svc.settings import Settings

CHUNK = 256 * 1024
CLOCK = SystemClock()
_WATCH = "/assistant.identity.v1.IdentityService/WatchRevocations"


class Context(identity_pb2_grpc.IdentityServiceServicer):
    """The part of context_svc that media_svc listens to: the real feed's frames, said when a test says so."""

    def __init__(self) -> None:
        self.signer = Signer(Ed25519PrivateKey.generate(), ids.uuid(), "assistant.mesh")
        self.grant_signer = Signer(Ed25519PrivateKey.generate(), ids.uuid(), "assistant.mesh")
        self.watchers: list[asyncio.Queue[identity_pb2.WatchRevocationsResponse]] = []
        self.opened = 0

    async def WatchRevocations(
        self, request: identity_pb2.WatchRevocationsRequest, context: Any
    ) -> AsyncIterator[identity_pb2.WatchRevocationsResponse]:
        said: asyncio.Queue[identity_pb2.WatchRevocationsResponse] = asyncio.Queue()
        self.watchers = [said]
        self.opened += 1
        yield identity_pb2.WatchRevocationsResponse(sequence=1, state=self._state())
        sequence = 1
        while True:
            try:
                frame = await asyncio.wait_for(said.get(), 2)
            except TimeoutError:
                frame = identity_pb2.WatchRevocationsResponse(heartbeat=identity_pb2.RevocationHeartbeat())
            sequence += 1
            frame.sequence = sequence
            yield frame
            if frame.HasField("closed"):
                return

    def say(self, **frame: Any) -> None:
        for watcher in self.watchers:
            watcher.put_nowait(identity_pb2.WatchRevocationsResponse(**frame))

    def grant(self, account: str, **changes: Any) -> dict[str, Any]:
        """What makes a call of context_svc one for this person, in a job."""
        now = CLOCK.now_us() // 1_000_000
        whole = {"sub": account, "aud": "media", "job": "job-1", "iat": now, "exp": now + 60, **changes}
        claims = {name: value for name, value in whole.items() if value is not None}
        return {"metadata": ((GRANT, self.grant_signer.sign(claims, typ=GRANT_TOKEN)),)}

    def _state(self) -> identity_pb2.RevocationState:
        purposes = (
            (self.signer, identity_pb2.SIGNING_KEY_PURPOSE_ACCESS_TOKEN),
            (self.grant_signer, identity_pb2.SIGNING_KEY_PURPOSE_GRANT),
        )
        keys = [
            identity_pb2.SigningKey(
                key_id=signer.key_id,
                purpose=purpose,
                jwk_json=json.dumps(to_jwk(signer.key_id, signer.public_key)),
                not_before_time=Timestamp(seconds=1),
            )
            for signer, purpose in purposes
        ]
        return identity_pb2.RevocationState(signing_keys=keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody signed in, and their stub."""

    account: str
    sign_in: str
    media: Any
    knowledge: Any

    async def upload(self, data: bytes, **header: Any) -> pb.Media:
        """A file in one stream."""
        answer = await self.media.UploadMedia(frames(data, **header))
        media: pb.Media = answer.media
        return media

    async def create(self, data: bytes, **header: Any) -> pb.Upload:
        answer = await self.media.CreateUpload(pb.CreateUploadRequest(header=header_of(data, **header)))
        upload: pb.Upload = answer.upload
        return upload

    async def write(self, upload: pb.Upload, offset: int, chunk: bytes) -> pb.Upload:
        request = pb.WriteUploadRequest(upload_id=upload.id, offset=offset, chunk=chunk)
        answer: pb.Upload = (await self.media.WriteUpload(request)).upload
        return answer

    async def progress(self, upload: pb.Upload) -> pb.Upload:
        answer = await self.media.GetUpload(pb.GetUploadRequest(upload_id=upload.id))
        found: pb.Upload = answer.upload
        return found

    async def send(self, upload: pb.Upload, data: bytes, size: int = CHUNK) -> pb.Upload:
        """All chunks from where the upload is."""
        for offset in range(upload.received_size, len(data), size):
            upload = await self.write(upload, offset, data[offset : offset + size])
        return upload

    async def download(self, media_id: str, **request: Any) -> list[pb.DownloadMediaResponse]:
        call = self.media.DownloadMedia(pb.DownloadMediaRequest(media_id=media_id, **request))
        return [frame async for frame in call]

    async def list(self, **request: Any) -> pb.ListMediaResponse:
        answer: pb.ListMediaResponse = await self.media.ListMedia(pb.ListMediaRequest(**request))
        return answer


@dataclass(kw_only=True, slots=True)
class Mesh:
    """A folder with keys and sockets, context_svc's feed, and as many starts of media_svc as a test wants."""

    folder: Path
    sockets: Path
    database: str
    context: Context = field(default_factory=Context)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = self.folder / "keys"
        keys.mkdir()
        publics = [
            to_jwk(room_issuer(name), load_or_create_key(keys / f"{name}.key").public_key())
            for name in ("context", "media", "orchestrator")
        ]
        (keys / "rooms.jwks").write_text(json.dumps({"keys": publics}))

    @property
    def address(self) -> str:
        return f"unix:{self.sockets}/media.sock"

    @property
    def blobs(self) -> Path:
        return self.folder / "media/blobs"

    def kept(self) -> list[Path]:
        return [Path(folder) / name for folder, _, names in os.walk(self.blobs) for name in names]

    def settings(self, **options: Any) -> Settings:
        return Settings(
            listen=self.address,
            context=f"unix:{self.sockets}/context.sock",
            keys_dir=self.folder / "keys",
            data_dir=self.folder,
            database=SecretStr(self.database),
            **{**self.options, **options},
        )

    @asynccontextmanager
    async def running(self, *, heard: bool = True, **options: Any) -> AsyncIterator[Starter]:
        """media_svc serves, and (unless told otherwise) has heard the feed."""
        async with app(self.settings(**options)), AsyncExitStack() as stack:
            starter = Starter(mesh=self, stack=stack)
            if heard:
                await starter.heard()
            yield starter

    @asynccontextmanager
    async def feeding(self) -> AsyncIterator[None]:
        """context_svc serves the feed to media_svc alone."""
        jwks = json.loads((self.folder / "keys/rooms.jwks").read_text())["keys"]
        rooms = Verifier(KeySet(jwks), None, "context", ROOM_TOKEN, CLOCK, session=False)
        boundary = Boundary(
            policies={_WATCH: Policy(audience=Audience.ROOM, deadline=None, callers=frozenset({"media"}))},
            authenticator=Authenticator(None, rooms, Revocations(CLOCK, None), CLOCK),
            domain="assistant.context",
        )

        def register(server: grpc.aio.Server) -> None:
            identity_pb2_grpc.add_IdentityServiceServicer_to_server(self.context, server)

        async with serving(
            addresses=[f"unix:{self.sockets}/context.sock"],
            services=[register],
            service_names=[],
            boundary=boundary,
            health=Health(),
            grace=timedelta(0),
        ):
            yield


@dataclass(frozen=True, kw_only=True, slots=True)
class Starter:
    """What a test does with a media_svc that runs."""

    mesh: Mesh
    stack: AsyncExitStack

    async def heard(self, serving: bool = True, *, service: str = "context") -> None:
        """Return when the room says that it hears the feed (or that it does not)."""
        wanted = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        async with asyncio.timeout(20), grpc.aio.insecure_channel(self.mesh.address, LOCAL) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True)
            async for answer in watch:
                if answer.status == wanted:
                    watch.cancel()
                    return

    async def person(self, account: str = "") -> Person:
        """Somebody new, or somebody known at a new device."""
        account, sign_in, now = account or ids.uuid(), ids.uuid(), CLOCK.now_us() // 1_000_000
        claims = {"sub": account, "sid": sign_in, "aud": "mesh", "iat": now, "exp": now + 600, "scope": ""}
        token = self.mesh.context.signer.sign(claims)
        channel = await self.stack.enter_async_context(grpc.aio.insecure_channel(self.mesh.address, LOCAL))
        media = Signed(rpc.MediaServiceStub(channel), token)
        knowledge = Signed(knowledge_pb2_grpc.KnowledgeServiceStub(channel), token)
        return Person(account=account, sign_in=sign_in, media=media, knowledge=knowledge)

    async def ended(self, account: str) -> None:
        """Return when the room knows that the account has ended."""
        gone = identity_pb2.RevokedAccount(account_id=account)
        gone.forget_time.FromMicroseconds(CLOCK.now_us() + 3_600_000_000)
        self.mesh.context.say(change={"revoked_accounts": [gone]})
        person = await self.person(account)
        async with asyncio.timeout(20):
            while await outcome(person.list()) is None:
                continue

    def grant(self, account: str, **changes: Any) -> dict[str, Any]:
        """What makes a call of context_svc one for this person, in a job."""
        return self.mesh.context.grant(account, **changes)

    async def room(self, name: str) -> Any:
        """The stub of another room with its own key."""
        key = load_or_create_key(self.mesh.folder / f"keys/{name}.key")
        identity = RoomIdentity(name, Signer(key, room_issuer(name), room_issuer(name)), CLOCK)
        channel = await self.stack.enter_async_context(
            open_channel(self.mesh.address, identity=identity, callee="media")
        )
        return rpc.MediaServiceStub(channel)


LOCAL = [("grpc.use_local_subchannel_pool", 1)]


def header_of(data: bytes, **fields: Any) -> pb.UploadHeader:
    return pb.UploadHeader(
        **{
            "request_id": ids.uuid(),
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "file_name": "a file",
            **fields,
        }
    )


def frames(data: bytes, **header: Any) -> Iterator[pb.UploadMediaRequest]:
    yield pb.UploadMediaRequest(header=header_of(data, **header))
    for at in range(0, len(data), CHUNK):
        yield pb.UploadMediaRequest(chunk=data[at : at + CHUNK])


async def failure(call: Any) -> Failure:
    """Why a call failed. Fails itself when it did not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call did not fail")


async def outcome(call: Any) -> str | None:
    """The reason why a call failed, or None when it did not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason
    return None


class Signed:
    """A stub whose every call carries a person's token."""

    def __init__(self, stub: Any, token: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {token}"),)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return partial(getattr(self._stub, method), metadata=self._metadata)
