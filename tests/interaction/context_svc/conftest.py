"""The whole room on real sockets, with a clock the test moves, on both engines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from assistant.identity.v1 import identity_pb2
from assistant.identity.v1.identity_pb2_grpc import IdentityServiceStub
from assistant.operator.v1 import operator_pb2
from assistant.operator.v1.operator_pb2_grpc import OperatorServiceStub
from assistant.session.v1.session_pb2_grpc import SessionServiceStub
from chassis import ids
from chassis.auth import RoomIdentity, room_issuer
from chassis.clock import SystemClock
from chassis.keys import load_or_create_key, to_jwk
from chassis.testing import FakeClock
from chassis.tokens import Signer
from context_svc.app import open_app
from context_svc.settings import ContextSettings
from tests.conftest import Place

PASSWORD = "a long enough sentence"


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A signed-in device: what Register or Login answered, and how its calls are made."""

    answer: identity_pb2.RegisterResponse | identity_pb2.LoginResponse
    email: str
    device_id: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self.answer.tokens.access_token)


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """A running context_svc and bare channels to it."""

    identity: IdentityServiceStub
    sessions: SessionServiceStub
    operator: OperatorServiceStub
    channel: grpc.aio.Channel
    address: str
    operator_socket: Path
    folder: Path
    clock: FakeClock
    rooms: dict[str, RoomIdentity] = field(default_factory=dict)

    async def setup_code(self) -> str:
        return (await self.operator.GetSetupCode(operator_pb2.GetSetupCodeRequest())).setup_code

    async def register(self, email: str = "anna@example.org", **changes: object) -> Person:
        request = registration(email=email, **changes)
        if not changes.get("setup_code") and (code := await self.setup_code()):
            request.setup_code = code
        answer = await self.identity.Register(request)
        return Person(answer=answer, email=email, device_id=request.device.device_id)

    async def log_in(self, person: Person, device_id: str = "") -> Person:
        device = device_info(device_id or ids.uuid())
        answer = await self.identity.Login(
            identity_pb2.LoginRequest(email=person.email, password=PASSWORD, device=device)
        )
        return Person(answer=answer, email=person.email, device_id=device.device_id)


def registration(**changes: object) -> identity_pb2.RegisterRequest:
    """A good registration, but for `changes`."""
    values: dict[str, object] = {
        "request_id": ids.uuid(),
        "email": "anna@example.org",
        "display_name": "Anna",
        "password": PASSWORD,
        "device": device_info(ids.uuid()),
    }
    return identity_pb2.RegisterRequest(**{**values, **changes})  # type: ignore[arg-type]


def device_info(device_id: str) -> identity_pb2.DeviceInfo:
    """A terminal."""
    return identity_pb2.DeviceInfo(
        device_id=device_id, name="Terminal", platform=identity_pb2.DEVICE_PLATFORM_TERMINAL, app_version="1"
    )


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a call with this token."""
    return (("authorization", f"Bearer {token}"),)


Start = Callable[..., AbstractAsyncContextManager[Room]]


@pytest.fixture
def start(socket_dir: Path, tmp_path: Path, database_place: Place) -> Start:
    """Starts the room on this test's own database and folders; again after it was stopped."""
    url = database_place.url if database_place.url.startswith("postgres") else ""

    @asynccontextmanager
    async def run(**changes: object) -> AsyncIterator[Room]:
        clock = FakeClock(start_us=SystemClock().now_us())
        keys = tmp_path / "keys"
        keys.mkdir(mode=0o700, exist_ok=True)
        rooms = room_keys(keys, clock)
        settings = ContextSettings.model_validate(
            {
                "listen": f"unix:{socket_dir}/c.sock",
                "operator_listen": f"unix:{socket_dir}/o.sock",
                "orchestrator": f"unix:{socket_dir}/none.sock",
                "media": f"unix:{socket_dir}/none.sock",
                "data_dir": tmp_path / "data",
                "keys_dir": keys,
                "database": url,
                "database_schema": database_place.schema or "context",
                **changes,
            }
        )
        async with (
            open_app(settings, clock=clock),
            grpc.aio.insecure_channel(settings.listen, [("grpc.use_local_subchannel_pool", 1)]) as channel,
            grpc.aio.insecure_channel(
                settings.operator_listen, [("grpc.use_local_subchannel_pool", 1)]
            ) as local,
        ):
            yield Room(
                identity=IdentityServiceStub(channel),
                sessions=SessionServiceStub(channel),
                operator=OperatorServiceStub(local),
                channel=channel,
                address=settings.listen,
                operator_socket=socket_dir / "o.sock",
                folder=tmp_path,
                clock=clock,
                rooms=rooms,
            )

    return run


@pytest.fixture
async def room(start: Start) -> AsyncIterator[Room]:
    """A fresh room without any account."""
    async with start() as running:
        yield running


def room_keys(folder: Path, clock: FakeClock) -> dict[str, RoomIdentity]:
    """Keys of the other rooms, their public halves where context_svc reads them."""
    signers = {
        name: Signer(load_or_create_key(folder / f"{name}.key"), room_issuer(name), room_issuer(name))
        for name in ("orchestrator", "llm", "media", "mallory")
    }
    jwks = [to_jwk(signer.key_id, signer.public_key) for signer in signers.values()]
    (folder / "rooms.jwks").write_text(json.dumps({"keys": jwks}))
    return {name: RoomIdentity(name, signer, clock) for name, signer in signers.items()}
