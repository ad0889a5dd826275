"""A turn as an MCP client is told of it: its frames folded into where it stands. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Self

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.message.v1 import message_pb2
from chassis.errors import InvalidRequest, Violation
from context_svc.wire.chat import text_of

APPROVE = (
    "Nothing of it runs before a person agrees: in their app, or by RespondToTurn"
    " (POST /v1/sessions/{session}/turns/{turn}:respond) with a token that may approve."
    " Ask for the turn again afterwards (get_turn)."
)
_HANDLE = "."
_OVER = frozenset({"finished", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Handle:
    """A turn's name for MCP clients: enough to find it again in its session's log."""

    session_id: str
    turn_id: str
    sequence: int

    def __str__(self) -> str:
        return _HANDLE.join((self.session_id, self.turn_id, str(self.sequence)))

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises InvalidRequest for what is none."""
        session, _, rest = text.partition(_HANDLE)
        turn, _, sequence = rest.partition(_HANDLE)
        if not (text.isascii() and session and turn and sequence.isdigit() and len(sequence) < 19):
            fault = Violation(field="turn", description="must be a turn that was answered", rule="turn.form")
            raise InvalidRequest(violations=[fault])
        return cls(session_id=session, turn_id=turn, sequence=int(sequence))


@dataclass(kw_only=True, slots=True)
class TurnView:
    """Where a turn stands. `state`: running, waiting, finished, failed or cancelled."""

    handle: Handle | None = None
    state: str = "running"
    answer: str = ""
    reason: str = ""
    message: str = ""
    retryable: bool = False
    closed: str = ""
    found: bool = False
    through: int = 0
    began_us: int = 0
    at_us: int = 0
    approvals: dict[str, dict[str, Any]] = field(default_factory=dict)
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether its last event was seen."""
        return self.state in _OVER

    @property
    def settled(self) -> bool:
        """Whether it goes no further by itself: it is over, or waits for a person."""
        return self.over or self.state == "waiting"

    @property
    def went_wrong(self) -> bool:
        """Whether what was asked for did not happen."""
        if self.state in ("failed", "cancelled"):
            return True
        return bool(self.calls) and not self.answer and self.calls[-1]["outcome"] != "done"

    def take(self, event: chat_pb2.ChatEvent) -> None:
        """Go on by one event. Those of other turns change nothing."""
        self.through = max(self.through, event.sequence)
        if self.handle is None and event.WhichOneof("event") == "turn_accepted":
            self.handle = Handle(session_id=event.session_id, turn_id=event.turn_id, sequence=event.sequence)
            self.began_us = event.create_time.ToMicroseconds()
        if self.handle is None or event.turn_id != self.handle.turn_id:
            return
        self.found = True
        self.at_us = event.create_time.ToMicroseconds()
        self.began_us = self.began_us or self.at_us
        self._take(event)

    def _take(self, event: chat_pb2.ChatEvent) -> None:
        match event.WhichOneof("event"):
            case "turn_started" | "tool_started" | "text_delta":
                self.state = "running"
                self.approvals.clear()
                self.questions.clear()
            case "tool_finished":
                self.calls.append(_call(event.tool_finished))
            case "approval_requested":
                self.approvals[event.approval_requested.approval_id] = _approval(event.approval_requested)
            case "input_requested":
                self.questions[event.input_requested.input_id] = _question(event.input_requested)
            case "turn_suspended":
                self.state = "waiting"
            case "turn_finished":
                self._end("finished", event.turn_finished.message)
            case "turn_failed":
                self._end("failed", event.turn_failed.partial)
                self.reason = error_pb2.ErrorReason.Name(event.turn_failed.reason).removeprefix(
                    "ERROR_REASON_"
                )
                self.message = event.turn_failed.message
                self.retryable = event.turn_failed.retryable
            case "turn_cancelled":
                self._end("cancelled", event.turn_cancelled.partial)

    def stand_in(self, snapshot: chat_pb2.Snapshot) -> None:
        """Go on by what stands for events that are no longer there."""
        self.through = max(self.through, snapshot.through.sequence)
        assert self.handle is not None
        said = [each for each in snapshot.messages if each.turn_id == self.handle.turn_id]
        for each in said:
            self.at_us = each.create_time.ToMicroseconds()
            self.began_us = self.began_us or self.at_us
        answers = [each for each in said if each.role == message_pb2.ROLE_ASSISTANT]
        if self.handle.turn_id in {turn.turn_id for turn in snapshot.open_turns}:
            self.found = True
        elif answers:
            self._end("finished", answers[-1])

    def _end(self, state: str, said: message_pb2.Message) -> None:
        self.state = state
        self.found = True
        self.answer = text_of(said.parts)
        self.approvals.clear()
        self.questions.clear()

    def told(self) -> dict[str, Any]:
        """As structured content."""
        assert self.handle is not None
        told: dict[str, Any] = {
            "turn": str(self.handle),
            "session_id": self.handle.session_id,
            "turn_id": self.handle.turn_id,
            "state": self.state,
        }
        if self.answer:
            told["answer"] = self.answer
        if self.calls:
            told["actions"] = self.calls
        if self.state == "waiting":
            told["approvals"] = list(self.approvals.values())
            told["questions"] = list(self.questions.values())
            told["how"] = APPROVE
        if self.state == "failed":
            told["error"] = {"reason": self.reason, "message": self.message, "retryable": self.retryable}
        if self.state == "running":
            told["how"] = "It goes on without you. Ask for the turn again (get_turn)."
        return told

    def waits_for(self) -> str:
        """What a person is asked, in a line."""
        asked = [f"approval of {each['action']}" for each in self.approvals.values()]
        asked += ["an answer" for _ in self.questions]
        return f"Waits for {', '.join(asked) or 'a person'}, given in the person's app."

    def words(self) -> str:
        """As text for a model."""
        match self.state:
            case "finished":
                return self.answer or "\n".join(each["result"] or each["outcome"] for each in self.calls)
            case "failed":
                return f"The turn failed: {self.message} ({self.reason})"
            case "cancelled":
                return self.message or "The turn was cancelled."
            case "waiting":
                return json.dumps(self.told(), ensure_ascii=False)
            case _:
                return f"The turn is still running. Ask for it again: get_turn with turn={self.handle}"


def take_frame(view: TurnView, kind: str, data: bytes) -> None:
    """Go on by a frame of SendMessage ("send"), ExecuteAction ("execute") or SubscribeEvents ("follow")."""
    frame = _FRAMES[kind].FromString(data)
    match frame.WhichOneof("frame"):
        case "event":
            view.take(frame.event)
        case "snapshot" if view.handle is not None:
            view.stand_in(frame.snapshot)
        case "closed":
            view.closed = chat_pb2.CloseReason.Name(frame.closed.reason).removeprefix("CLOSE_REASON_")


_FRAMES: dict[str, Any] = {
    "send": chat_pb2.SendMessageResponse,
    "execute": agent_pb2.ExecuteActionResponse,
    "follow": chat_pb2.SubscribeEventsResponse,
}


def _call(done: chat_pb2.ToolFinished) -> dict[str, Any]:
    call: dict[str, Any] = {
        "action": done.action,
        "outcome": chat_pb2.ToolOutcome.Name(done.outcome).removeprefix("TOOL_OUTCOME_").lower(),
        "result": done.result,
    }
    if done.HasField("error"):
        call["error"] = {
            "reason": error_pb2.ErrorReason.Name(done.error.reason).removeprefix("ERROR_REASON_"),
            "message": done.error.message,
        }
    return call


def _approval(asked: chat_pb2.ApprovalRequested) -> dict[str, Any]:
    return {
        "approval_id": asked.approval_id,
        "action": asked.action,
        "arguments_json": asked.arguments_json,
        "arguments_sha256": asked.arguments_sha256,
        "effect_class": chat_pb2.EffectClass.Name(asked.effect_class).removeprefix("EFFECT_CLASS_"),
        "cause": chat_pb2.ApprovalCause.Name(asked.cause).removeprefix("APPROVAL_CAUSE_"),
        "expire_time": asked.expire_time.ToJsonString(),
    }


def _question(asked: chat_pb2.InputRequested) -> dict[str, Any]:
    return {
        "input_id": asked.input_id,
        "message": asked.message,
        "form_json_schema": asked.form_json_schema,
        "expire_time": asked.expire_time.ToJsonString(),
    }
