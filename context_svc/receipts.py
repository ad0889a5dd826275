"""Receipts: what a run used, cost and sent out, gathered while it runs and kept with its turn."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from chassis.database import Database, Row, Statement, Unit
from context_svc.cut_steps import Trail
from context_svc.errors import TurnNotFound
from context_svc.ledger import Spent

_REMEMBERED = 10_000


class ReceiptCodec(Protocol):
    """Writes and reads receipts in their stored form."""

    def receipt(self, tally: Tally, usage: bytes) -> bytes:
        """A serialised TurnReceipt of what was gathered; `usage` is the whole run's, empty: that of its steps."""

    def step_spent(self, entry: bytes) -> Spent | None:
        """What the model step of a serialised ReceiptEntry used; None for other entries."""

    def cut_step(self, receipt: bytes, tally: Tally) -> bytes:
        """A serialised ReceiptEntry of the model step that was cut off, counted and estimated; empty if none was.

        `receipt` is that of the tally.
        """

    def usage(self, receipt: bytes) -> bytes:
        """The serialised Usage of a serialised TurnReceipt."""

    def spent(self, receipt: bytes) -> Spent:
        """What the runs of a serialised TurnReceipt used."""

    def is_elsewhere(self, started: bytes) -> bool:
        """Whether the model of a serialised TurnStarted runs on machines that are not the mesh's."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """What one run of a turn has told about itself so far. Times are seconds.

    `earlier` is the receipt that the turn's runs before this one left, `started` the payload of TurnStarted.
    """

    earlier: bytes = b""
    entries: list[bytes] = field(default_factory=list)
    started: bytes = b""
    context_keys: tuple[str, ...] = ()
    accept: float | None = None
    began: float = 0.0
    first_token: float | None = None
    trail: Trail = field(default_factory=Trail)

    def token(self, now: float) -> None:
        """The answer began to grow, at that time of the steady clock; later ones change nothing."""
        if self.first_token is None:
            self.first_token = now - self.began


def used(codec: ReceiptCodec, tally: Tally) -> bytes:
    """The serialised Usage of a turn whose run was cut off; the tally gets an entry for the step it was in."""
    receipt = codec.receipt(tally, b"")
    if entry := codec.cut_step(receipt, tally):
        tally.entries.append(entry)
        receipt = codec.receipt(tally, b"")
    return codec.usage(receipt)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A receipt as it is kept, and the times of its turn in microseconds.

    `started` is the serialised ChatEvent with TurnStarted of a turn whose receipt is not written yet.
    """

    turn_id: str
    state: int
    receipt: bytes
    started: bytes
    create_us: int
    start_us: int | None
    end_us: int | None


class Arrivals:
    """How long messages took from their arrival until they were durable, until their turns' runs ask for it."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, float] = OrderedDict()

    def note(self, turn_id: str, seconds: float) -> None:
        """A message was accepted in so many seconds."""
        self._seconds[turn_id] = seconds
        if len(self._seconds) > _REMEMBERED:
            self._seconds.popitem(last=False)

    def take(self, turn_id: str) -> float | None:
        """How long it took; None when another process accepted it."""
        return self._seconds.pop(turn_id, None)


class Receipts:
    """Reads receipts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_turn(self, account_id: str, session_id: str, turn_id: str) -> Kept:
        """The receipt of a turn, or of a job's run in that session. Raises TurnNotFound."""
        return await self._database.read(lambda: _kept(account_id, session_id, turn_id))


def _kept(account_id: str, session_id: str, turn_id: str) -> Unit[Kept]:
    named = {"turn": turn_id, "session": session_id, "account": account_id}
    rows = yield Statement(
        "SELECT id, state, receipt, create_us, start_us, end_us, accepted_sequence FROM turn"
        " WHERE id = :turn AND session_id = :session AND account_id = :account",
        named,
    )
    if rows:
        started = b"" if rows[0]["receipt"] else (yield from _started(rows[0], session_id))
        return _row(rows[0], started)
    rows = yield Statement(
        "SELECT job_id AS id, state, receipt, create_us, start_us, end_us FROM job_receipt"
        " WHERE job_id = :turn AND session_id = :session AND account_id = :account",
        named,
    )
    if not rows:
        raise TurnNotFound
    return _row(rows[0], b"")


def _started(turn: Row, session_id: str) -> Unit[bytes]:
    """The newest TurnStarted of a turn; empty when it has none."""
    rows = yield Statement(
        "SELECT data FROM event WHERE session_id = :session AND sequence > :accepted AND turn_id = :turn"
        " AND kind = 11 ORDER BY sequence DESC LIMIT 1",
        {"session": session_id, "accepted": turn["accepted_sequence"], "turn": turn["id"]},
    )
    return bytes(rows[0]["data"]) if rows else b""


def _row(row: Row, started: bytes) -> Kept:
    return Kept(
        turn_id=row["id"],
        state=row["state"],
        receipt=bytes(row["receipt"] or b""),
        started=started,
        create_us=row["create_us"],
        start_us=row["start_us"],
        end_us=row["end_us"],
    )
