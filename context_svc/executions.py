"""One action, asked for by the person: a turn of one given call without a model step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chassis.database import Unit
from context_svc.errors import QueueFull
from context_svc.journal import Draft, Journal, Kind
from context_svc.turn_rows import Key, NewTurn, insert_turn, open_rows, remember
from context_svc.turns import MOST_OPEN_TURNS, Accepted, Turns, take_sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """An action to run. `action` is the serialised ToolCallPart; `approved`: the person's program agreed to it.
    `job_id`: the job that asks for it, when no person does.
    """

    key: Key
    session_id: str
    action: bytes
    approved: bool
    job_id: str = ""


class ExecutionCodec(Protocol):
    """Writes what executions put into the log."""

    def action_accepted(self, action: bytes) -> bytes:
        """A serialised TurnAccepted of an action."""


class Executions:
    """The unit that opens a turn of one action."""

    def __init__(self, journal: Journal, turns: Turns, codec: ExecutionCodec) -> None:
        self._journal = journal
        self._turns = turns
        self._codec = codec

    def accept(self, execution: Execution, *, turn_id: str, answer_id: str, now_us: int) -> Unit[Accepted]:
        """Queue a turn for the action. What it leaves stands below the newest message.

        Raises SessionNotFound, SessionEnded, QueueFull and IdempotencyKeyReused.
        """
        account_id, session_id = execution.key.account_id, execution.session_id
        joined = yield from self._turns.joined(execution.key, session_id)
        if joined is not None:
            return joined
        session = yield from take_sequence(account_id, session_id, now_us)
        open_turns = yield from open_rows(session_id)
        if len(open_turns) >= MOST_OPEN_TURNS:
            raise QueueFull(quota="open turns of a session")
        newest = open_turns[-1]["answer_id"] if open_turns else session["head_message_id"]
        new = NewTurn(
            id=turn_id,
            session_id=session_id,
            account_id=account_id,
            answer_id=answer_id,
            options=b"",
            sequence=session["last_sequence"],
            parent_id=newest or "",
            action=execution.action,
            action_approved=execution.approved,
            job_id=execution.job_id,
        )
        yield from insert_turn(new, now_us)
        yield from remember(execution.key, session_id, turn_id)
        payload = self._codec.action_accepted(execution.action)
        draft = Draft(kind=Kind.TURN_ACCEPTED, turn_id=turn_id, payload=lambda _sequence, _time: payload)
        (entry,) = self._journal.numbered(account_id, session_id, new.sequence, [draft], now_us)
        yield from self._journal.store([entry], now_us)
        return Accepted(turn_id=turn_id, entry=entry, joined=False)
