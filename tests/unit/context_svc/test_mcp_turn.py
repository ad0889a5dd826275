"""A turn's frames folded into what an MCP client is told."""

from __future__ import annotations

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis.errors import InvalidRequest
from context_svc.wire import mcp_calls
from context_svc.wire.mcp_turn import Handle, TurnView

pytestmark = pytest.mark.requirement("MCP-2")
TURN = Handle(session_id="s", turn_id="t", sequence=4)


def event(turn: str = "t", sequence: int = 5, **what: object) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(session_id="s", turn_id=turn, sequence=sequence, **what)  # type: ignore[arg-type]


def said(text: str) -> message_pb2.Message:
    return message_pb2.Message(
        turn_id="t", role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(text=text)]
    )


def test_a_handle_is_read_back_and_nothing_else_is() -> None:
    assert Handle.read(str(TURN)) == TURN
    for bad in ("", "s", "s.t", "s.t.", "s.t.-1", "s.t.x", ".t.1", "s..1", "s.t." + "9" * 30, "s.t.\u0661"):
        with pytest.raises(InvalidRequest):
            Handle.read(bad)


def test_the_first_turn_that_is_accepted_is_followed_and_no_other() -> None:
    view = TurnView()
    view.take(event(sequence=4, turn_accepted=chat_pb2.TurnAccepted()))
    view.take(event("other", 5, turn_finished=chat_pb2.TurnFinished(message=said("no"))))
    assert (view.handle, view.state) == (TURN, "running")
    view.take(event(turn_finished=chat_pb2.TurnFinished(message=said("yes"))))
    assert (view.state, view.words(), view.told()["answer"]) == ("finished", "yes", "yes")


def test_what_waits_for_a_person_is_told_until_it_goes_on() -> None:
    view = TurnView(handle=TURN)
    asked = chat_pb2.ApprovalRequested(approval_id="a", action="pay", arguments_json='{"to":"x"}')
    view.take(event(approval_requested=asked))
    view.take(event(turn_suspended=chat_pb2.TurnSuspended(approval_ids=["a"])))
    told = view.told()
    assert (told["state"], told["approvals"][0]["arguments_json"]) == ("waiting", '{"to":"x"}')
    assert view.settled
    assert not view.over
    assert view.waits_for() == "Waits for approval of pay, given in the person's app."
    view.take(event(turn_started=chat_pb2.TurnStarted()))
    assert (view.state, "approvals" in view.told()) == ("running", False)


def test_a_failure_keeps_its_reason() -> None:
    view = TurnView(handle=TURN)
    failed = chat_pb2.TurnFailed(
        reason=error_pb2.ERROR_REASON_COST_LIMIT, message="Too dear.", partial=said("ha")
    )
    view.take(event(turn_failed=failed))
    assert view.told()["error"] == {"reason": "COST_LIMIT", "message": "Too dear.", "retryable": False}
    assert view.went_wrong
    assert view.told()["answer"] == "ha"


def test_a_snapshot_stands_for_events_that_are_gone() -> None:
    ended = TurnView(handle=TURN)
    ended.stand_in(chat_pb2.Snapshot(messages=[said("kept")]))
    assert (ended.state, ended.answer) == ("finished", "kept")
    running = TurnView(handle=TURN)
    running.stand_in(chat_pb2.Snapshot(open_turns=[session_pb2.OpenTurn(turn_id="t")]))
    assert (running.state, running.found) == ("running", True)
    gone = TurnView(handle=TURN)
    gone.stand_in(chat_pb2.Snapshot())
    assert not gone.found


def test_each_action_has_a_tool_name_that_every_client_takes_and_that_leads_back() -> None:
    for action in ("calculate", "mcp.notes.search_all"):
        name = mcp_calls.tool_name(action)
        assert name.replace("_", "").replace("-", "").isalnum()
        assert mcp_calls.action_name(name) == action
    assert mcp_calls.action_name("send_message") is None


def test_resources_are_read_by_their_whole_name_only() -> None:
    for uri in ("mesh://context", "mesh://context/memory.1", "mesh://sessions/s1/messages?page_token=ab"):
        assert mcp_calls.reading(uri) is not None
    for uri in (
        "mesh://",
        "mesh://context/",
        "mesh://sessions/",
        "mesh://sessions/a/b",
        "http://x/mesh://context",
    ):
        assert mcp_calls.reading(uri) is None
