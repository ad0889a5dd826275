"""A room is killed in mid-turn: nothing that was acknowledged is lost, and the assistant goes on."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.house import House, house, new_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LONG = "stream 300 tokens 20 ms apart"


def accepted(http: httpx.Client, session: str, text: str) -> str:
    """Send a message; the id of what was acknowledged."""
    message = new_id()
    body = {"message": {"clientMessageId": message, "parts": [{"text": text}]}}
    answer = http.post(f"/v1/sessions/{session}/messages:send", json=body)
    assert "turnAccepted" in answer.text, answer.text
    return message


def events_until(http: httpx.Client, session: str, wanted: str, after: int = 0) -> list[dict[str, object]]:
    """Poll the log until an event of the wanted kind is there; for 40 s at most."""
    events: list[dict[str, object]] = []
    until = time.monotonic() + 40
    while time.monotonic() < until:
        query: dict[str, str | int] = {"afterSequence": after, "wait": "1s", "pageSize": 1000}
        page = http.get(f"/v1/sessions/{session}/events", params=query).json()
        events += page.get("events", [])
        after = int(page["next"]["sequence"])
        if any(wanted in event for event in page.get("events", [])):
            return events
    raise TimeoutError(f"no {wanted} in {json.dumps(events)[-2000:]}")


def new_session(http: httpx.Client) -> str:
    session: str = http.post("/v1/sessions", json={"sessionId": new_id()}).json()["session"]["id"]
    return session


def texts(http: httpx.Client, session: str) -> list[str]:
    page = http.get(f"/v1/sessions/{session}/messages", params={"order": "LIST_ORDER_OLDEST_FIRST"}).json()
    return ["".join(part.get("text", "") for part in message["parts"]) for message in page["messages"]]


def dense(events: list[dict[str, object]]) -> bool:
    return [int(str(event["sequence"])) for event in events] == list(range(1, len(events) + 1))


@pytest.mark.requirement("CHAT-4", "RUN-1")
@pytest.mark.parametrize("room", ["context", "orchestrator", "llm", "media"])
def test_a_room_killed_in_mid_turn_comes_back_and_nothing_acknowledged_is_lost(room: str) -> None:
    with house() as home, home.http() as http:
        session = new_session(http)
        first = accepted(http, session, LONG)
        events_until(http, session, "textDelta")
        second = accepted(http, session, "and then this")
        killed = home.kill(room)
        home.await_ready()
        assert home.pid(room) != killed
        log = events_until(http, session, "turnFinished")
        if room != "media":
            failed = next(event["turnFailed"] for event in log if "turnFailed" in event)
            assert isinstance(failed, dict)
            assert failed["retryable"]
            assert failed["partial"]["parts"][0]["text"].startswith("word ")
        else:
            log = events_until(http, session, "turnFinished", after=int(str(log[-1]["sequence"]))) and [
                *http.get(f"/v1/sessions/{session}/events", params={"pageSize": 1000}).json()["events"]
            ]
        assert dense(log)
        said = texts(http, session)
        assert LONG in said
        assert "You said: and then this" in said
        stored = {event["turnAccepted"]["message"]["id"] for event in log if "turnAccepted" in event}  # type: ignore[index]
        assert stored == {first, second}


@pytest.mark.requirement("CHAT-4")
def test_what_was_said_is_there_after_the_whole_mesh_was_killed_and_started_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with house(data=data) as home, home.http() as http:
        session = new_session(http)
        message = accepted(http, session, LONG)
        events_until(http, session, "textDelta")
        home.stop(signal.SIGKILL)
    with house(data=data) as again, again.http() as http:
        log = events_until(http, session, "turnFailed")
        assert dense(log)
        assert log[0]["turnAccepted"]["message"]["id"] == message  # type: ignore[index]
        assert texts(http, session)[0] == LONG
        accepted(http, session, "are you there?")
        events_until(http, session, "turnFinished", after=int(str(log[-1]["sequence"])))
        assert texts(http, session)[-1] == "You said: are you there?"


@pytest.mark.requirement("CHAT-5")
def test_a_client_that_goes_away_cancels_nothing(home: House) -> None:
    with home.http() as http:
        session = new_session(http)
        body = {
            "follow": True,
            "message": {"clientMessageId": new_id(), "parts": [{"text": "stream 20 tokens 5 ms apart"}]},
        }
        with http.stream("POST", f"/v1/sessions/{session}/messages:send", json=body) as answer:
            next(answer.iter_lines())  # and away
        log = events_until(http, session, "turnFinished")
    assert dense(log)
