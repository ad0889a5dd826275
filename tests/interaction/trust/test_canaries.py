"""Twelve things that must be nowhere but where they belong: planted, used, and looked for."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

from assistant.context.v1 import context_pb2, context_pb2_grpc
from assistant.identity.v1 import identity_pb2
from assistant.operator.v1 import operator_pb2
from chassis import ids, telemetry
from tests.interaction.trust.callers import bearer
from tests.interaction.trust.contract import Rpc, rpcs
from tests.interaction.trust.doors import Native
from tests.interaction.trust.rooms import Mesh, Person, device, running

pytestmark = pytest.mark.requirement("SAFE-2")

PASSWORD = "canary-password wanders off"
EMAIL = "canary-mail@example.org"
MESSAGE = "canary-message fail with PROVIDER_FAILED"
FILE = b"canary-file " * 9
CONTEXT = "canary-context"
TITLE = "canary-title"
DEVICE = "canary-device"
KEY = "sk-canary-provider-key"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Every line of every room, down to DEBUG."""
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    written = io.StringIO()
    telemetry.configure("test", level="DEBUG", fmt="json", stream=written)
    yield written
    logging.getLogger().handlers[:] = before
    logging.getLogger().setLevel(level)


async def plant(mesh: Mesh) -> tuple[Person, dict[str, str]]:
    """A person who uses everything; answers what must not be found."""
    code = (await mesh.operator.GetSetupCode(operator_pb2.GetSetupCodeRequest())).setup_code
    invite = await mesh.operator.CreateInvite(operator_pb2.CreateInviteRequest(request_id=ids.uuid()))
    anna = await mesh.register(EMAIL, password=PASSWORD, device=device(DEVICE), setup_code=code)
    await mesh.register("second@example.org", invite_code=invite.invite_code)
    session = await mesh.session(anna, TITLE)
    await mesh.say(anna, session, MESSAGE)
    await mesh.say(anna, session, "canary-message calculate 2 + 2")
    await mesh.upload(anna, FILE, "canary-file.txt")
    known: Any = context_pb2_grpc.ContextServiceStub(mesh.channels["context"])
    write = context_pb2.ContextItemWrite(key="k", value=Value(string_value=CONTEXT))
    await known.UpdateContext(
        context_pb2.UpdateContextRequest(session_id=session, request_id=ids.uuid(), items=[write]),
        metadata=anna.metadata,
    )
    refreshed = await mesh.accounts.RefreshToken(
        identity_pb2.RefreshTokenRequest(refresh_token=anna.tokens.refresh_token, device_id=anna.device_id)
    )
    api = await mesh.accounts.CreateApiToken(
        identity_pb2.CreateApiTokenRequest(
            request_id=ids.uuid(), name="canary-token-name", scopes=[identity_pb2.TOKEN_SCOPE_READ]
        ),
        metadata=anna.metadata,
    )
    return anna, {
        "password": PASSWORD,
        "access token": anna.tokens.access_token,
        "API token": api.secret,
        "message text": "canary-message",
        "file bytes": "canary-file",
        "context value": CONTEXT,
        "e-mail": EMAIL,
        "title": TITLE,
        "provider key": KEY,
        "set-up code": code,
        "device name": DEVICE,
        "invite": invite.invite_code,
        "refresh token": anna.tokens.refresh_token,
        "the next refresh token": refreshed.tokens.refresh_token,
    }


def found(text: str, canaries: dict[str, str]) -> set[str]:
    return {name for name, value in canaries.items() if value in text}


def stuffed(rpc: Rpc, canaries: dict[str, str]) -> Message:
    """A request whose every text holds every canary: whatever an error repeats of it is seen."""
    request = rpc.request()
    _stuff(request, " ".join(canaries.values()), depth=4)
    return request


def _is_googles(field: Any) -> bool:
    return field.message_type is None or field.message_type.full_name.startswith("google.")


def _stuff(message: Message, text: str, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.fields[0] is not field:
            continue
        repeated = field.is_repeated
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        match field.type:
            case FieldDescriptor.TYPE_STRING | FieldDescriptor.TYPE_BYTES:
                value = text if field.type == FieldDescriptor.TYPE_STRING else text.encode()
                if repeated:
                    getattr(message, field.name).append(value)
                else:
                    setattr(message, field.name, value)
            case FieldDescriptor.TYPE_MESSAGE if depth and not _is_googles(field):
                inner = getattr(message, field.name)
                _stuff(inner.add() if repeated else inner, text, depth - 1)


async def test_planted_secrets_and_content_are_in_no_log_and_no_error(
    tmp_path: Path, socket_dir: Path, log: io.StringIO
) -> None:
    provider = {"openai_base_url": "http://127.0.0.1:9/v1", "openai_key": KEY, "openai_models": "away"}
    async with running(tmp_path, socket_dir, llm_options=provider) as mesh:
        anna, canaries = await plant(mesh)
        assert len(canaries) >= 12
        fresh = await mesh.log_in(anna, PASSWORD)
        leaks: dict[str, set[str]] = {}
        failures = 0
        for rpc in rpcs():
            if not rpc.policy.served or str(rpc) == "Logout":
                continue
            for headers in (bearer(fresh.tokens.access_token), bearer(f"{canaries['access token']}x"), {}):
                outcome = await Native(mesh.channels[rpc.room]).ask(rpc, stuffed(rpc, canaries), headers)
                failures += bool(outcome.reason)
                assert outcome.reason != "INTERNAL", rpc
                if outcome.reason and (leaked := found(repr(outcome), canaries)):
                    leaks[f"error of {rpc}"] = leaked
        status = await mesh.operator.GetStatus(operator_pb2.GetStatusRequest())
        if leaked := found(str(status), canaries):
            leaks["status"] = leaked
    assert failures > 100
    lines = log.getvalue()
    assert lines.count('"message": "call"') > 100  # there is a log to look at
    if leaked := found(lines, canaries):
        leaks["log"] = leaked
    assert leaks == {}
