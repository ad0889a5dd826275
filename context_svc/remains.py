"""What the log tells of a run that nobody continues."""

from __future__ import annotations

from typing import Protocol

from chassis.database import Statement, Unit
from context_svc.claims import Claim
from context_svc.journal import Kind
from context_svc.run_frames import Call


class RemainsCodec(Protocol):
    """Reads what a run put into the log."""

    def attempt(self, event: bytes) -> int:
        """The attempt of a serialised ChatEvent that holds a TurnStarted."""

    def delta_text(self, event: bytes) -> str:
        """The text of a serialised ChatEvent that holds a TextDelta."""

    def call(self, event: bytes) -> Call:
        """The call of a serialised ChatEvent that tells of its begin or its end."""


def left_behind(claim: Claim, codec: RemainsCodec) -> Unit[tuple[str, tuple[Call, ...]]]:
    """What the last attempt of a turn had said, and its actions with effects that have no end."""
    rows = yield Statement(
        "SELECT kind, data FROM event WHERE session_id = :session AND sequence > :accepted"
        " AND turn_id = :turn AND kind IN (11, 12, 14, 16) ORDER BY sequence",
        {"session": claim.session_id, "accepted": claim.accepted_sequence, "turn": claim.turn_id},
    )
    pieces: list[str] = []
    calls: dict[str, Call] = {}
    attempt = 0
    for row in rows:
        match row["kind"]:
            case Kind.TURN_STARTED:
                attempt = codec.attempt(row["data"])
            case Kind.TEXT_DELTA if (
                attempt == claim.attempt
            ):  # what was said before it stopped on its way is kept
                pieces.append(codec.delta_text(row["data"]))
            case Kind.TEXT_DELTA:
                pass
            case Kind.TOOL_STARTED:
                call = codec.call(row["data"])
                calls[call.id] = call
            case _:
                calls.pop(codec.call(row["data"]).id, None)
    return "".join(pieces), tuple(call for call in calls.values() if call.effect)
