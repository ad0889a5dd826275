"""How a turn ends: one last event, its new state, and what was said as the answer it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from context_svc.claims import Answer, Claim, Ending
from context_svc.journal import Draft, Kind, Payload
from context_svc.turn_rows import TurnState

PREVIEW = 200  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Over:
    """A turn is over. `message` is the answer's body, empty when nothing was said."""

    state: TurnState
    message: bytes
    text: str
    usage: bytes
    reason: str = ""
    explanation: str = ""
    retryable: bool = False
    stage: int = 0


class EndCodec(Protocol):
    """Writes the end of a turn."""

    def answer(self, body: bytes, claim: Claim, *, partial: bool, sequence: int, time_us: int) -> bytes:
        """The stored form of the agent's message."""

    def turn_finished(self, message: bytes, usage: bytes) -> bytes:
        """A serialised TurnFinished."""

    def turn_failed(self, over: Over, partial: bytes) -> bytes:
        """A serialised TurnFailed."""

    def turn_cancelled(self, partial: bytes, usage: bytes, device_id: str) -> bytes:
        """A serialised TurnCancelled."""


def ending(codec: EndCodec, claim: Claim, over: Over, device_id: str, receipt: bytes = b"") -> Ending:
    """What the commit that ends a turn stores. `device_id` is the device that stopped it, if one did."""
    partial = over.state is not TurnState.FINISHED

    def answer(sequence: int, time_us: int) -> bytes:
        if not over.message:
            return b""
        return codec.answer(over.message, claim, partial=partial, sequence=sequence, time_us=time_us)

    kind, payload = _last_event(codec, over, answer, device_id)
    return Ending(
        state=over.state,
        draft=Draft(kind=kind, turn_id=claim.turn_id, payload=payload),
        answer=Answer(preview=over.text[:PREVIEW], data=answer) if over.message else None,
        reason=over.reason,
        receipt=receipt,
    )


def _last_event(codec: EndCodec, over: Over, answer: Payload, device_id: str) -> tuple[Kind, Payload]:
    match over.state:
        case TurnState.FINISHED:
            return Kind.TURN_FINISHED, lambda s, t: codec.turn_finished(answer(s, t), over.usage)
        case TurnState.CANCELLED:
            return Kind.TURN_CANCELLED, lambda s, t: codec.turn_cancelled(answer(s, t), over.usage, device_id)
        case _:
            return Kind.TURN_FAILED, lambda s, t: codec.turn_failed(over, answer(s, t))
