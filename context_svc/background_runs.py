"""Runs without a person who waits: a job asks the model, within the day's money, and leaves a receipt.

A model on the mesh's own machines is let go as soon as a person's turn runs: it would slow their answer down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.tasks import Tasks
from context_svc.endings import Over
from context_svc.errors import SuggestionFailed
from context_svc.journal import Kind
from context_svc.ledger import Ledger, Spent
from context_svc.receipts import ReceiptCodec, Tally, used
from context_svc.run_frames import Happened, ReasoningDelta, ReceiptEntry, TextDelta
from context_svc.runs import Material, Orchestrator
from context_svc.turn_rows import TurnState


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a model said, empty when it failed, and the payload of TurnStarted."""

    text: str
    started: bytes


class BackgroundRuns:
    """Asks models for jobs. The claim of the material names the job as its turn."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        orchestrator: Orchestrator,
        codec: ReceiptCodec,
        ledger: Ledger,
        busy: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._orchestrator = orchestrator
        self._codec = codec
        self._ledger = ledger
        self._busy = busy

    async def ask(self, material: Material) -> Said | None:
        """What the model says. None: other runs hold the money of the day, or a person's turn took the model: ask
        again later.

        Raises SuggestionFailed when it breaks off, and PeerUnavailable.
        """
        claim, began_us = material.claim, self._clock.now_us()
        allowance = await self._database.write(
            claim.account_id, lambda: self._ledger.reserve(claim.turn_id, claim.account_id, began_us)
        )
        if allowance is None:
            return None
        tally, over = Tally(began=self._clock.monotonic()), None
        try:
            over = await self._while_nobody_waits(
                replace(material, claim=replace(claim, allowance=allowance)), tally
            )
        finally:
            await self._account(material, tally, over, began_us)
        if over is None:
            return None
        return Said(text=over.text if over.state is TurnState.FINISHED else "", started=tally.started)

    async def _while_nobody_waits(self, material: Material, tally: Tally) -> Over | None:
        async with Tasks() as tasks:
            listening = tasks.spawn("ask for a job", self._listen(material, tally))
            making_way = tasks.spawn("make way for a person", self._make_way(tally))
            await asyncio.wait({listening, making_way}, return_when=asyncio.FIRST_COMPLETED)
            return listening.result() if listening.done() else None

    async def _make_way(self, tally: Tally) -> None:
        await self._busy()
        if self._codec.is_elsewhere(tally.started):
            await asyncio.Event().wait()  # it slows nobody down, and what it said is paid for

    async def _listen(self, material: Material, tally: Tally) -> Over:
        async with self._orchestrator.run(material) as stream:
            tally.context_keys = stream.context_keys
            async for frame in stream.frames():
                match frame:
                    case Over():
                        return frame
                    case ReceiptEntry(data):
                        tally.entries.append(data)
                    case TextDelta(text):
                        tally.token(self._clock.monotonic())
                        tally.trail.said(text)
                    case ReasoningDelta(text):
                        tally.trail.said(text)
                    case Happened(Kind.TURN_STARTED, payload):
                        tally.started = payload
                    case _:
                        pass
        raise SuggestionFailed("the stream ended early")

    async def _account(self, material: Material, tally: Tally, over: Over | None, began_us: int) -> None:
        receipt = self._codec.receipt(tally, over.usage if over else used(self._codec, tally))
        state = over.state if over else TurnState.FAILED
        spent, now_us = self._codec.spent(receipt), self._clock.now_us()
        await self._database.write(
            material.claim.account_id,
            lambda: self._kept(material, receipt, spent, state, (began_us, now_us)),
        )

    def _kept(
        self, material: Material, receipt: bytes, spent: Spent, state: TurnState, span: tuple[int, int]
    ) -> Unit[None]:
        claim = material.claim
        yield from self._ledger.settle(claim.turn_id, spent)
        yield Statement(
            "INSERT INTO job_receipt (job_id, session_id, account_id, state, receipt, create_us, start_us, end_us)"
            " SELECT :job, s.id, s.account_id, :state, :receipt, :began, :began, :ended FROM session s"
            " WHERE s.id = :session ON CONFLICT (job_id) DO UPDATE SET state = excluded.state,"
            " receipt = excluded.receipt, start_us = excluded.start_us, end_us = excluded.end_us",
            {
                "job": claim.turn_id,
                "session": claim.session_id,
                "state": int(state),
                "receipt": receipt,
                "began": span[0],
                "ended": span[1],
            },
        )
