"""What a run left behind whose process is gone: what it had said, its actions, what it was charged so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chassis.database import Statement, Unit
from context_svc.claims import Claim
from context_svc.cut_steps import Trail
from context_svc.journal import Kind
from context_svc.run_frames import Call


class LogCodec(Protocol):
    """Reads the events of a run."""

    def delta_text(self, event: bytes) -> str:
        """The text of a serialised ChatEvent that holds a TextDelta or a ReasoningDelta."""

    def call(self, event: bytes) -> Call:
        """The call of a serialised ChatEvent that tells of its begin or its end."""

    def started(self, event: bytes, attempt: int) -> bytes:
        """The TurnStarted of a serialised ChatEvent; empty for one of another attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remains:
    """`calls` are the actions with effects that have no end, `receipt` is what was noted of the turn's steps.

    `started` is a serialised TurnStarted, empty when the run had not begun its work.
    """

    text: str
    calls: tuple[Call, ...]
    receipt: bytes
    started: bytes
    trail: Trail


def remains(claim: Claim, codec: LogCodec) -> Unit[Remains]:
    """What the last attempt of a turn left."""
    turn = yield Statement("SELECT receipt FROM turn WHERE id = :turn", {"turn": claim.turn_id})
    rows = yield Statement(
        "SELECT kind, data FROM event WHERE session_id = :session AND sequence > :accepted"
        " AND turn_id = :turn AND kind IN (11, 12, 13, 14, 16) ORDER BY sequence",
        {"session": claim.session_id, "accepted": claim.accepted_sequence, "turn": claim.turn_id},
    )
    pieces: list[str] = []
    calls: dict[str, Call] = {}
    started, trail = b"", Trail()
    for row in rows:
        data = bytes(row["data"])
        match row["kind"]:
            case Kind.TURN_STARTED:
                pieces.clear()
                started, trail = codec.started(data, claim.attempt), Trail()
            case Kind.TEXT_DELTA:
                pieces.append(codec.delta_text(data))
                trail.said(pieces[-1])
            case Kind.REASONING_DELTA:
                trail.said(codec.delta_text(data))
            case Kind.TOOL_STARTED:
                call = codec.call(data)
                calls[call.id] = call
                trail.began(call.id, call.step)
            case _:
                call = codec.call(data)
                calls.pop(call.id, None)
                trail.ended(call.id, len(data))
    return Remains(
        text="".join(pieces) if started else "",
        calls=tuple(call for call in calls.values() if call.effect),
        receipt=bytes(turn[0]["receipt"] or b"") if turn else b"",
        started=started,
        trail=trail,
    )
