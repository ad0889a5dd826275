"""One script through five doors leaves the same log, in canonical form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from tests.e2e.canonical import canonical
from tests.e2e.house import House, new_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCRIPT = (
    "hello",
    "What is 17*23?",
    "stream 30 tokens 2 ms apart",
    "fail with PROVIDER_FAILED after 3 tokens",
)
ENDINGS = ("turnFinished", "turnFailed", "turnCancelled")


def new_message(session: str, text: str) -> chat_pb2.NewMessage:
    return chat_pb2.NewMessage(
        session_id=session, client_message_id=new_id(), parts=[message_pb2.Part(text=text)]
    )


def by_native_stream(home: House, session: str) -> None:
    """Chat, bidirectional."""
    token = home.token()

    def requests() -> Iterator[chat_pb2.ChatRequest]:
        yield chat_pb2.ChatRequest(open=chat_pb2.OpenChat())
        for text in SCRIPT:
            yield chat_pb2.ChatRequest(message=new_message(session, text))

    with grpc.insecure_channel(f"127.0.0.1:{home.port}") as channel:
        call = channel.stream_stream(
            "/assistant.chat.v1.ChatService/Chat",
            chat_pb2.ChatRequest.SerializeToString,
            chat_pb2.ChatResponse.FromString,
        )(requests(), metadata=(("authorization", f"Bearer {token}"),), timeout=60)
        last = list(call)[-1]
    assert last.closed.reason == chat_pb2.CLOSE_REASON_DONE


def by_server_stream(home: House, session: str) -> None:
    """SendMessage over gRPC, followed to the end of each turn."""
    token = home.token()
    with grpc.insecure_channel(f"127.0.0.1:{home.port}") as channel:
        send = channel.unary_stream(
            "/assistant.chat.v1.ChatService/SendMessage",
            chat_pb2.SendMessageRequest.SerializeToString,
            chat_pb2.SendMessageResponse.FromString,
        )
        for text in SCRIPT:
            request = chat_pb2.SendMessageRequest(message=new_message(session, text), follow=True)
            list(send(request, metadata=(("authorization", f"Bearer {token}"),), timeout=60))


def by_events(home: House, session: str) -> None:
    """JSON, the answer as server-sent events."""
    with home.http() as http:
        for text in SCRIPT:
            body = {"follow": True, "message": {"clientMessageId": new_id(), "parts": [{"text": text}]}}
            with http.stream("POST", f"/v1/sessions/{session}/messages:send", json=body) as answer:
                frames = [json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:")]
            assert any(ending in frames[-1]["event"] for ending in ENDINGS)


def by_polling(home: House, session: str) -> None:
    """JSON, sent and then asked for."""
    with home.http() as http:
        for text in SCRIPT:
            body = {"message": {"clientMessageId": new_id(), "parts": [{"text": text}]}}
            sent = http.post(f"/v1/sessions/{session}/messages:send", json=body).text
            after = int(json.loads(sent.removeprefix("data:"))["event"]["sequence"])
            over = False
            while not over:
                query: dict[str, str | int] = {"afterSequence": after, "wait": "10s"}
                page = http.get(f"/v1/sessions/{session}/events", params=query).json()
                after = int(page["next"]["sequence"])
                over = any(ending in event for event in page.get("events", []) for ending in ENDINGS)


def by_mcp(home: House, session: str) -> None:
    """A tool call of the Model Context Protocol for each message."""
    headers = {"accept": "application/json, text/event-stream"}
    with home.http() as http:
        for text in SCRIPT:
            call = {"name": "send_message", "arguments": {"session_id": session, "text": text}}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
            answer = http.post("/mcp", json=body, headers=headers)
            assert '"state":"f' in answer.text  # finished, or failed as the script says


DOORS: tuple[Callable[[House, str], None], ...] = (
    by_native_stream,
    by_server_stream,
    by_events,
    by_polling,
    by_mcp,
)


def log_of(home: House, session: str) -> list[dict[str, object]]:
    with home.http() as http:
        page = http.get(f"/v1/sessions/{session}/events", params={"pageSize": 1000}).json()
    assert page["atEnd"]
    events: list[dict[str, object]] = page["events"]
    return events


@pytest.mark.requirement("CHAT-1", "LLM-9")
def test_one_script_leaves_the_same_log_whichever_door_it_came_through(home: House) -> None:
    logs = []
    with home.http() as http:
        for door in DOORS:
            session = http.post("/v1/sessions", json={"sessionId": new_id()}).json()["session"]["id"]
            door(home, session)
            logs.append(canonical(log_of(home, session)))
    for log in logs[1:]:
        assert log == logs[0]
    assert sum(any(ending in event for ending in ENDINGS) for event in logs[0]) == len(SCRIPT)


@pytest.mark.requirement("CHAT-1")
def test_a_subscription_over_grpc_and_a_poll_over_json_read_the_same_events(home: House) -> None:
    with home.http() as http:
        session = http.post("/v1/sessions", json={"sessionId": new_id()}).json()["session"]["id"]
    by_events(home, session)
    polled = log_of(home, session)
    with grpc.insecure_channel(f"127.0.0.1:{home.port}") as channel:
        subscription = chat_pb2_grpc.ChatServiceStub(channel).SubscribeEvents(  # type: ignore[arg-type]
            chat_pb2.SubscribeEventsRequest(cursors=[session_pb2.SessionCursor(session_id=session)]),
            metadata=(("authorization", f"Bearer {home.token()}"),),
            timeout=20,
        )
        followed = []
        for frame in subscription:  # type: ignore[attr-defined]
            if frame.HasField("event"):
                followed.append(MessageToDict(frame.event))
            if len(followed) == len(polled):
                break
        subscription.cancel()
    assert followed == polled
