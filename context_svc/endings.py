"""How a turn ends: one last event, its new state, and what was said as the answer it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from context_svc.claims import Answer, Claim, Ending
from context_svc.journal import Draft, Kind, Payload
from context_svc.receipts import ReceiptCodec, Tally
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
    retry_us: int | None = None


class EndCodec(ReceiptCodec, Protocol):
    """Writes the end of a turn."""

    def crowded(self, started: bytes) -> bool:
        """Whether the window of a serialised TurnStarted is so full that a summary should be made."""

    def answer(self, body: bytes, claim: Claim, *, partial: bool, sequence: int, time_us: int) -> bytes:
        """The stored form of the agent's message."""

    def turn_finished(self, message: bytes, usage: bytes) -> bytes:
        """A serialised TurnFinished."""

    def turn_failed(self, over: Over, partial: bytes) -> bytes:
        """A serialised TurnFailed."""

    def turn_cancelled(self, partial: bytes, usage: bytes, device_id: str) -> bytes:
        """A serialised TurnCancelled."""


def ending(codec: EndCodec, claim: Claim, over: Over, device_id: str, tally: Tally | None = None) -> Ending:
    """What the commit that ends a turn stores. `device_id` is the device that stopped it, if one did.

    Without a tally nobody knows what it used beyond what was noted on the way.
    """
    partial = over.state is not TurnState.FINISHED
    over = _explained(claim, over)
    receipt = codec.receipt(tally, over.usage) if tally else claim.receipt
    before, after = codec.spent(claim.receipt), codec.spent(receipt)

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
        spent=after.beyond(before) if tally else None,
        crowded=tally is not None and codec.crowded(tally.started),
    )


def _explained(claim: Claim, over: Over) -> Over:
    """A run that was stopped because the day's money is used up says so, and until when."""
    if over.reason != "COST_LIMIT" or not claim.allowance.of_the_day:
        return over
    spent = "Today's limit of money is reached. Models on the machines of this mesh cost nothing."
    return replace(over, explanation=spent, retry_us=claim.allowance.retry_us)


def _last_event(codec: EndCodec, over: Over, answer: Payload, device_id: str) -> tuple[Kind, Payload]:
    match over.state:
        case TurnState.FINISHED:
            return Kind.TURN_FINISHED, lambda s, t: codec.turn_finished(answer(s, t), over.usage)
        case TurnState.CANCELLED:
            return Kind.TURN_CANCELLED, lambda s, t: codec.turn_cancelled(answer(s, t), over.usage, device_id)
        case _:
            return Kind.TURN_FAILED, lambda s, t: codec.turn_failed(over, answer(s, t))
