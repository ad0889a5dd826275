"""What a person can do to a turn, through the edge as JSON: the same commands, answers and refusals as over gRPC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.house import House, new_id
from tests.e2e.test_doors import ENDINGS, log_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def http(home: House) -> Iterator[httpx.Client]:
    with home.http() as client:
        yield client


@pytest.fixture
def session(http: httpx.Client) -> str:
    return str(http.post("/v1/sessions", json={"sessionId": new_id()}).json()["session"]["id"])


def streamed(http: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with http.stream("POST", path, json={**body, "follow": True}) as answer:
        return [json.loads(line[5:])["event"] for line in answer.iter_lines() if line.startswith("data:")]


def said(http: httpx.Client, session: str, text: str) -> list[dict[str, Any]]:
    body = {"message": {"clientMessageId": new_id(), "parts": [{"text": text}]}}
    return streamed(http, f"/v1/sessions/{session}/messages:send", body)


def ended(home: House, session: str, turns: int) -> list[dict[str, Any]]:
    """The log once so many turns are over."""
    while True:
        log: list[dict[str, Any]] = log_of(home, session)
        if sum(any(ending in event for ending in ENDINGS) for event in log) >= turns:
            return log


@pytest.mark.requirement("CHAT-9", "CHAT-10", "CHAT-17")
def test_branches_imports_and_clearing_as_json(home: House, http: httpx.Client, session: str) -> None:
    first = said(http, session, "hello")
    message = first[0]["turnAccepted"]["message"]["id"]
    here = f"/v1/sessions/{session}"
    edit = {"replacement": {"sessionId": session, "clientMessageId": new_id(), "parts": [{"text": "hi"}]}}
    edited = http.post(f"{here}/messages/{message}:edit", json=edit).json()["accepted"]
    assert edited["turnAccepted"]["message"]["parts"][0]["text"] == "hi"
    again = http.post(f"{here}/turns/{first[0]['turnId']}:regenerate", json={"requestId": new_id()}).json()
    assert again["accepted"]["turnAccepted"]["regeneratedTurnId"] == first[0]["turnId"]
    offline = {
        "message": {"clientMessageId": new_id(), "parts": [{"text": "on a plane"}]},
        "answer": [{"text": "answered there"}],
        "model": "pocket-1",
        "mode": "IMPORT_MODE_KEEP",
    }
    imported = http.post(f"{here}/answers:import", json=offline).json()["imported"]["answerImported"]
    assert imported["answer"]["importedModel"] == "pocket-1"
    log = ended(home, session, 3)
    assert [int(event["sequence"]) for event in log] == list(range(1, len(log) + 1))
    leaf = {"leafId": imported["answer"]["id"], "order": "LIST_ORDER_OLDEST_FIRST"}
    branch = http.get(f"{here}/messages", params=leaf).json()["messages"]
    assert branch[-1]["parts"][0]["text"] == "answered there"
    cleared = http.post(f"{here}/messages:clear", json={"requestId": new_id()}).json()
    assert int(cleared["throughSequence"]) >= len(log)
    assert "messages" not in http.get(f"{here}/messages").json()


@pytest.mark.requirement("CHAT-2", "AGT-3")
def test_batches_and_actions_as_json(home: House, http: httpx.Client, session: str) -> None:
    messages = [
        {"sessionId": session, "clientMessageId": new_id(), "parts": [{"text": text}]} for text in ("one", "")
    ]
    done = http.post("/v1/messages:batchSend", json={"messages": messages}).json()["outcomes"]
    assert done[0]["accepted"]["turnAccepted"]["message"]["id"] == messages[0]["clientMessageId"]
    assert done[1]["refused"]["details"][0]["reason"] == "INVALID_FIELD"
    ended(home, session, 1)
    body = {"requestId": new_id(), "action": "current_time", "argumentsJson": '{"zone":"Europe/Paris"}'}
    events = streamed(http, f"/v1/sessions/{session}/actions:execute", body)
    assert "turnFinished" in events[-1]
    (finished,) = [event["toolFinished"] for event in events if "toolFinished" in event]
    assert finished["outcome"] == "TOOL_OUTCOME_DONE"
    unknown = http.post(f"/v1/sessions/{session}/actions:execute", json={**body, "action": "nothing"})
    assert unknown.status_code == 404
    waiting = http.post(
        f"/v1/sessions/{session}/turns/{events[0]['turnId']}:respond",
        json={"requestId": new_id(), "input": {"inputId": "none", "contentJson": "{}"}},
    )
    assert (waiting.status_code, waiting.json()["details"][0]["reason"]) == (400, "TURN_NOT_WAITING")
