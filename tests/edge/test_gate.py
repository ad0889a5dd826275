"""Who gets through the edge, with what, and what nobody reaches through it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from chassis.testing import socket_directory
from tests.edge import proxy
from tests.edge.calls import EMPTY_FRAME, FRAME_WEB, Failure, from_json, native, native_failure
from tests.edge.conftest import Mesh, Tokens
from tests.edge.rooms import domain

pytestmark = pytest.mark.slow
GET_SESSION = "/assistant.session.v1.SessionService/GetSession"
S1 = b"\x0a\x02s1"  # GetSessionRequest{session_id: "s1"}
NOT_SERVED = Failure(
    code=12,
    message="This server does not serve this call.",
    reason="NOT_SERVED",
    domain="assistant.mesh",
)
INTERNAL = [
    "/assistant.identity.v1.IdentityService/WatchRevocations",
    "/assistant.turn.v1.TurnService/RunTurn",
    "/assistant.turn.v1.TurnService/ListActions",
    "/assistant.turn.v1.TurnService/CheckModels",
    "/assistant.generation.v1.GenerationService/Generate",
    "/assistant.generation.v1.GenerationService/BatchGenerate",
    "/assistant.generation.v1.GenerationService/CountTokens",
    "/assistant.media.v1.MediaService/ClaimMedia",
    "/assistant.media.v1.MediaService/ReleaseMedia",
    "/assistant.media.v1.MediaService/EraseOwner",
    "/assistant.media.v1.MediaService/ExportOwner",
    "/assistant.media.v1.MediaService/ImportMedia",
    "/assistant.media.v1.MediaService/WriteBackup",
    "/assistant.media.v1.MediaService/ReadBackup",
    "/assistant.operator.v1.OperatorService/GetSetupCode",
    "/assistant.operator.v1.OperatorService/GetStatus",
    "/grpc.health.v1.Health/Watch",
    "/grpc.channelz.v1.Channelz/GetServers",
]


def _token(name: str, good: Tokens) -> str:
    """A token that is no good, by what is wrong with it."""
    if name == "expired":
        return good.make(exp=int(time.time()) - 60)
    if name == "another mesh's key":
        return Tokens().make()
    if name == "an unknown key id":
        return replace(good, key_id="key-9").make()
    if name == "a room's issuer":
        return replace(good, issuer="room:media").make()
    if name == "another audience":
        return good.make(aud="media")
    if name == "not yet valid":
        return good.make(nbf=int(time.time()) + 600)
    return {"no token": "a.b.c", "empty": ""}[name]


@pytest.mark.requirement("EDGE-1")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("expired", "TOKEN_EXPIRED"),
        ("another mesh's key", "TOKEN_INVALID"),
        ("an unknown key id", "TOKEN_INVALID"),
        ("a room's issuer", "TOKEN_INVALID"),
        ("another audience", "TOKEN_INVALID"),
        ("not yet valid", "TOKEN_INVALID"),
        ("no token", "TOKEN_INVALID"),
    ],
)
async def test_a_token_that_is_no_good_is_refused_at_the_gate(
    mesh: Mesh, http: httpx.AsyncClient, channel: grpc.aio.Channel, name: str, reason: str
) -> None:
    headers = mesh.bearer(_token(name, mesh.tokens))
    before = len(mesh.seen.metadata)
    by_json = await http.get("/v1/sessions/s1", headers=headers)
    by_grpc = await native_failure(channel, GET_SESSION, headers, S1)

    assert by_json.status_code == 401
    assert (by_grpc.code, by_grpc.reason, by_grpc.domain) == (16, reason, "assistant.mesh")
    assert from_json(by_json) == by_grpc
    assert len(mesh.seen.metadata) == before  # no room has seen it


@pytest.mark.requirement("EDGE-1")
async def test_a_token_in_the_query_or_a_cookie_counts_for_nothing(
    mesh: Mesh, http: httpx.AsyncClient
) -> None:
    token = mesh.tokens.make()
    in_query = await http.get("/v1/sessions/s1", params={"access_token": token})
    in_cookie = await http.get("/v1/sessions/s1", headers={"cookie": f"authorization=Bearer {token}"})

    assert [from_json(answer).reason for answer in (in_query, in_cookie)] == ["TOKEN_MISSING"] * 2


@pytest.mark.requirement("EDGE-1")
async def test_open_calls_need_no_token(
    mesh: Mesh, http: httpx.AsyncClient, channel: grpc.aio.Channel
) -> None:
    server = await http.get("/v1/server")
    keys = await http.get("/.well-known/jwks.json", follow_redirects=True)
    healthy = await http.get("/healthz")
    health = await native(channel, "/grpc.health.v1.Health/Check", {})
    login = await http.post("/v1/auth:login", json={})

    assert server.json()["serverName"] == "edge test"
    assert (keys.json(), keys.headers["content-type"]) == ({"keys": mesh.tokens.jwks()}, "application/json")
    assert healthy.status_code == 200
    assert health == b"\x08\x01"  # HealthCheckResponse{status: SERVING}
    assert from_json(login).domain == domain("context")  # it came through to the room


@pytest.mark.requirement("EDGE-1")
@pytest.mark.parametrize("method", INTERNAL)
async def test_an_internal_call_does_not_exist_on_any_door(
    mesh: Mesh, http: httpx.AsyncClient, channel: grpc.aio.Channel, method: str
) -> None:
    signed_in = mesh.bearer()
    by_grpc = await native_failure(channel, method, signed_in)
    by_json = await http.post(method, json={}, headers=signed_in)
    by_web = await http.post(method, content=EMPTY_FRAME, headers=signed_in | FRAME_WEB)
    as_json_path = await http.post("/v1" + method, json={}, headers=signed_in)
    as_grpc_path = await http.post(
        "/v1" + method, content=EMPTY_FRAME, headers=signed_in | {"content-type": "application/grpc"}
    )

    assert by_grpc == NOT_SERVED
    assert (by_json.status_code, from_json(by_json)) == (404, NOT_SERVED)
    assert (by_web.headers["grpc-status"], by_web.content) == ("12", b"")
    assert (as_json_path.status_code, from_json(as_json_path)) == (404, NOT_SERVED)
    assert as_grpc_path.headers["grpc-status"] == "12"


@pytest.mark.requirement("EDGE-1")
@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/v1/unknown"),
        ("PUT", "/v1/sessions/s1"),
        ("POST", "/"),
        ("GET", "/missing.js"),
        ("GET", "/../../etc/passwd"),
        ("GET", "/config_dump"),
        ("GET", "/stats/prometheus"),
        ("POST", "/quitquitquit"),
        ("TRACE", "/"),
    ],
)
async def test_what_is_not_served_answers_404_in_json(
    mesh: Mesh, http: httpx.AsyncClient, verb: str, path: str
) -> None:
    answer = await http.request(verb, path, headers=mesh.bearer())
    assert (answer.status_code, from_json(answer)) == (404, NOT_SERVED)


@pytest.mark.requirement("EDGE-1")
async def test_no_client_says_who_it_is_but_by_its_token(mesh: Mesh, http: httpx.AsyncClient) -> None:
    spoofed = {"x-user-id": "bob", "x-forwarded-user": "bob", "x-internal-caller": "room:context"}
    await http.get("/v1/sessions/s1", headers=mesh.bearer() | spoofed | {"x-harmless": "kept"})

    arrived = mesh.seen.metadata[-1]
    assert not arrived.keys() & spoofed.keys()
    assert arrived["x-harmless"] == "kept"
    assert str(arrived["authorization"]).startswith("Bearer ")  # the room checks it again


@pytest.mark.requirement("EDGE-1")
async def test_the_request_id_is_made_or_kept_and_always_told_back(
    mesh: Mesh, http: httpx.AsyncClient
) -> None:
    made = await http.get("/v1/server")
    kept = await http.get("/v1/server", headers={"x-request-id": "phone-1234567"})
    refused = await http.get("/v1/sessions/s1", headers={"x-request-id": "phone-7654321"})

    assert len(made.headers["x-request-id"]) == 36
    assert kept.headers["x-request-id"] == "phone-1234567"
    assert mesh.seen.metadata[-1]["x-request-id"] == "phone-1234567"
    assert refused.headers["x-request-id"] == "phone-7654321"
    assert refused.json()["details"][0]["metadata"] == {"request_id": "phone-7654321"}


async def test_a_query_can_name_another_session_so_only_the_decoded_message_may_be_trusted(
    mesh: Mesh, http: httpx.AsyncClient
) -> None:
    """Envoy lets the query win over the path. The room decides on the message, which names the other."""
    answer = await http.get("/v1/sessions/s1?session_id=missing", headers=mesh.bearer())
    assert (answer.status_code, from_json(answer).reason) == (404, "SESSION_NOT_FOUND")


@pytest.mark.requirement("EDGE-1")
async def test_reflection_is_for_signed_in_callers(mesh: Mesh, channel: grpc.aio.Channel) -> None:
    ask = b"\x3a\x01*"  # ServerReflectionRequest{list_services: "*"}
    for version in ("v1", "v1alpha"):
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        ask_on: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        call = ask_on(metadata=tuple(mesh.bearer().items()), timeout=10)
        await call.write(ask)
        answer = await call.read()
        assert isinstance(answer, bytes)
        await call.done_writing()
        assert b"assistant.chat.v1.ChatService" in answer
        assert (await native_failure(channel, method, {}, ask)).reason == "TOKEN_MISSING"


@pytest.fixture
def rotated(mesh: Mesh) -> Iterator[tuple[proxy.Edge, Path]]:
    """A second edge before the same rooms, with a key folder of its own and reflection off."""
    with socket_directory() as folder:
        keys = folder / "keys"
        keys.mkdir()
        (keys / "users.jwks").write_text(json.dumps({"keys": mesh.tokens.jwks()}))
        values = proxy.local_values(mesh.folder, proxy.free_port()) | {
            "JWKS_FOLDER": str(keys),
            "JWKS_CACHE": "1s",
            "ADMIN_SOCKET": str(folder / "admin.sock"),
            "REFLECTION": "0",
        }
        with proxy.envoy(folder, values) as edge:
            yield edge, keys


@pytest.fixture
async def second(rotated: tuple[proxy.Edge, Path]) -> AsyncIterator[httpx.AsyncClient]:
    """A JSON client of the second edge."""
    async with httpx.AsyncClient(base_url=rotated[0].url, timeout=10) as client:
        yield client


async def test_a_new_signing_key_is_taken_up_without_a_restart(
    mesh: Mesh, rotated: tuple[proxy.Edge, Path], second: httpx.AsyncClient
) -> None:
    _, keys = rotated
    newer = Tokens(key_id="key-2")
    before = await second.get("/v1/sessions/s1", headers=mesh.bearer())
    assert before.status_code == 200  # the old keys have been read
    fresh = keys / "users.jwks.new"
    fresh.write_text(json.dumps({"keys": mesh.tokens.jwks() + newer.jwks()}))
    fresh.replace(keys / "users.jwks")

    until = time.monotonic() + 10
    while time.monotonic() < until:
        answer = await second.get("/v1/sessions/s1", headers=mesh.bearer(newer.make()))
        if from_json(answer).domain != "assistant.mesh":
            break
    # The gate knows the key now; the room behind it, which was told of no rotation, does not.
    assert (from_json(answer).reason, from_json(answer).domain) == ("TOKEN_INVALID", domain("context"))


async def test_the_gate_can_ask_the_room_for_the_keys_where_no_file_is_shared(mesh: Mesh) -> None:
    with socket_directory() as folder:
        values = proxy.local_values(mesh.folder, proxy.free_port()) | {
            "JWKS_FOLDER": str(folder),
            "JWKS_PATH": "v1/jwks",
            "ADMIN_SOCKET": str(folder / "admin.sock"),
        }
        with proxy.envoy(folder, values) as edge:
            async with httpx.AsyncClient(base_url=edge.url, timeout=10) as client:
                good = await client.get("/v1/sessions/s1", headers=mesh.bearer())
                forged = await client.get("/v1/sessions/s1", headers=mesh.bearer(Tokens().make()))
    assert good.status_code == 200
    assert from_json(forged).domain == "assistant.mesh"


@pytest.mark.requirement("EDGE-1")
async def test_reflection_can_be_closed(mesh: Mesh, rotated: tuple[proxy.Edge, Path]) -> None:
    method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{rotated[0].port}") as channel:
        assert await native_failure(channel, method, mesh.bearer()) == NOT_SERVED


def test_the_list_of_internal_calls_is_the_contract_s() -> None:
    files = FileDescriptorSet.FromString(proxy.DESCRIPTORS.read_bytes()).file
    known = {
        f"/{file.package}.{service.name}/{method.name}"
        for file in files
        for service in file.service
        for method in service.method
    }
    assert {method for method in INTERNAL if method.startswith("/assistant.")} <= known
