"""Native gRPC, grpc-web, JSON and SSE through the real Envoy: same calls, same answers, same failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.generation.v1 import generation_pb2, generation_pb2_grpc
from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2, session_pb2_grpc
from tests.edge.calls import Failure, browser, events, from_grpc, from_json
from tests.edge.conftest import Mesh
from tests.edge.rooms import LARGE, QUIET_SECONDS, domain

pytestmark = pytest.mark.slow
MESSAGE_ID = "5f0f2a68-0a5e-4d0c-9a59-0d3c2b9f7a11"
MESSAGE = {
    "sessionId": "s1",
    "clientMessageId": MESSAGE_ID,
    "parts": [{"text": "hello"}],
}
CANCEL = "/v1/sessions/s1/turns/t1:cancel"
CANCELLATION = {"requestId": "8d7c2a4e-3b7e-4b58-9b43-6a0b3f2d9c55"}
NOT_FOUND = Failure(code=5, message="No such session.", reason="SESSION_NOT_FOUND", domain=domain("context"))


def _message(text: str) -> chat_pb2.NewMessage:
    part = message_pb2.Part(text=text)
    return chat_pb2.NewMessage(session_id="s1", client_message_id=MESSAGE_ID, parts=[part])


@pytest.mark.requirement("EDGE-1")
async def test_a_native_client_calls_each_room(mesh: Mesh, channel: grpc.aio.Channel) -> None:
    metadata = tuple(mesh.bearer().items())
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    models = generation_pb2_grpc.GenerationServiceStub(channel)
    media = media_pb2_grpc.MediaServiceStub(channel)

    async def chunks() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        for _ in range(8):
            yield media_pb2.UploadMediaRequest(chunk=b"x" * 262_144)

    session = await sessions.GetSession(session_pb2.GetSessionRequest(session_id="s1"), metadata=metadata)
    model = await models.GetModel(generation_pb2.GetModelRequest(model="a/b"), metadata=metadata)
    stored = await media.UploadMedia(chunks(), metadata=metadata)

    assert (session.session.title, model.model.name) == ("Hi", "a/b")
    assert (
        stored.media.size == 8 * 262_144
    )  # twice what a JSON body may have: client streams are not buffered


@pytest.mark.requirement("EDGE-1")
async def test_a_native_bidi_stream_answers_frame_by_frame(mesh: Mesh, channel: grpc.aio.Channel) -> None:
    call = chat_pb2_grpc.ChatServiceStub(channel).Chat(metadata=tuple(mesh.bearer().items()))
    heard = []
    for word in ("one", "two", "three"):
        await call.write(chat_pb2.ChatRequest(message=_message(word)))
        answer = await asyncio.wait_for(call.read(), 20)  # before the next frame is written
        assert isinstance(answer, chat_pb2.ChatResponse)
        heard.append(answer.event.text_delta.text)
    await call.done_writing()

    assert heard == ["one", "two", "three"]
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.requirement("EDGE-1")
async def test_json_is_answered_with_json_also_when_the_answer_is_large(
    mesh: Mesh, http: httpx.AsyncClient
) -> None:
    session_id = "0d9c0a5e-4a4e-4c63-8a30-4d6f1f3f9b10"
    body = {"sessionId": session_id, "title": "Plans"}
    created = await http.post("/v1/sessions", json=body, headers=mesh.bearer())
    listed = await http.get("/v1/sessions", headers=mesh.bearer())

    assert created.json() == {"session": {"id": session_id, "title": "Plans"}}
    assert len(listed.json()["sessions"][0]["title"]) == LARGE  # the connection's buffer is a tenth of it


@pytest.mark.requirement("EDGE-1", "RUN-5")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_sse_delivers_an_event_before_the_next_is_made(
    mesh: Mesh, http: httpx.AsyncClient, encoding: str
) -> None:
    path, body = "/v1/sessions/s1/messages:send", {"message": MESSAGE, "follow": True}
    headers = mesh.bearer() | {"accept-encoding": encoding}
    told = []
    async with http.stream("POST", path, json=body, headers=headers) as response:
        async for event in events(response):
            told.append(event["event"]["textDelta"]["text"])  # type: ignore[index]
            if told == ["first"]:  # the room makes the last event only after this call
                cancelled = await http.post(CANCEL, json=CANCELLATION, headers=mesh.bearer())
                assert cancelled.status_code == 200

    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers.get("content-encoding", "identity") == encoding
    assert told == ["first", "last"]


@pytest.mark.requirement("EDGE-1")
async def test_a_grpc_web_client_calls_streams_and_is_told_of_failures(mesh: Mesh, web_client: None) -> None:
    async def run(case: str) -> list[dict[str, object]]:
        return await browser(mesh.edge.url, mesh.tokens.make(), case)

    assert await run("unary") == [{"title": "Hi"}]
    assert await run("other_room") == [{"model": "tiny"}]
    assert await run("stream") == [
        {"sequence": 1, "text": "first"},
        {"sequence": 2, "text": "last"},
        {"ended": True},
    ]
    assert await run("internal") == [
        {
            "code": "Unimplemented",
            "message": "This server does not serve this call.",
            "reason": "NOT_SERVED",
            "domain": "assistant.mesh",
        }
    ]


@pytest.mark.requirement("EDGE-1")
async def test_a_room_s_failure_is_the_same_on_three_doors(
    mesh: Mesh, http: httpx.AsyncClient, channel: grpc.aio.Channel, web_client: None
) -> None:
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as native:
        await sessions.GetSession(
            session_pb2.GetSessionRequest(session_id="missing"), metadata=tuple(mesh.bearer().items())
        )
    answered = await http.get("/v1/sessions/missing", headers=mesh.bearer())
    [told] = await browser(mesh.edge.url, mesh.tokens.make(), "missing")

    assert from_grpc(native.value) == NOT_FOUND
    assert (answered.status_code, from_json(answered)) == (404, NOT_FOUND)
    assert told == {
        "code": "NotFound",
        "message": NOT_FOUND.message,
        "reason": NOT_FOUND.reason,
        "domain": NOT_FOUND.domain,
    }


@pytest.mark.requirement("EDGE-1")
async def test_the_edge_s_own_failure_is_the_same_on_three_doors(
    mesh: Mesh, http: httpx.AsyncClient, channel: grpc.aio.Channel, web_client: None
) -> None:
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as native:
        await sessions.GetSession(session_pb2.GetSessionRequest(session_id="s1"))
    answered = await http.get("/v1/sessions/s1")
    [told] = await browser(mesh.edge.url, "", "unary")

    refused = Failure(code=16, message="Sign in first.", reason="TOKEN_MISSING", domain="assistant.mesh")
    assert from_grpc(native.value) == refused
    assert (answered.status_code, from_json(answered)) == (401, refused)
    assert told == {
        "code": "Unauthenticated",
        "message": refused.message,
        "reason": refused.reason,
        "domain": refused.domain,
    }


@pytest.mark.timeout(QUIET_SECONDS + 30)
async def test_a_stream_that_is_quiet_for_longer_than_a_route_s_default_timeout_is_not_cut(
    mesh: Mesh, http: httpx.AsyncClient, channel: grpc.aio.Channel
) -> None:
    began = time.monotonic()
    subscribe = chat_pb2_grpc.ChatServiceStub(channel).SubscribeEvents(
        chat_pb2.SubscribeEventsRequest(all_sessions=True), metadata=tuple(mesh.bearer().items())
    )
    body, headers = {"allSessions": True}, mesh.bearer()
    patient = httpx.Timeout(QUIET_SECONDS + 10)
    async with http.stream(
        "POST", "/v1/events:subscribe", json=body, headers=headers, timeout=patient
    ) as response:
        by_json = [event async for event in events(response)]
    native = [frame.event.text_delta.text async for frame in subscribe]

    assert time.monotonic() - began >= QUIET_SECONDS
    assert native == ["late"]
    assert [event["event"]["textDelta"] for event in by_json] == [{"text": "late"}]  # type: ignore[index]
