"""What one run writes into the log: gathered for a moment, durable in order, never ahead of its claim.

Every event but a delta goes out at once with what is before it, and the first delta too; later deltas wait at most
50 ms or 2 KiB and are joined. One write at a time: while it is on its way, the next one gathers. What a model step
used goes with the next write, at most 50 ms later; that of the last one with the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chassis import failpoints
from chassis.clock import Clock
from chassis.database import Database
from context_svc.claims import Claim, Claims, Ending, Holding, Noted
from context_svc.journal import Draft, Entry, Kind, Publish
from context_svc.ledger import Spent

PATIENCE = 0.05  # seconds a later delta may wait
PLENTY = 2 * 1024  # characters of deltas that wait no longer
MOST_UNWRITTEN = 256 * 1024  # characters; beyond, the model is made to wait


@dataclass(slots=True)
class _Gathered:
    """A delta that grows while it waits."""

    kind: Kind
    pieces: list[str] = field(default_factory=list)


class TurnLog:
    """The pen of one run. `write` is its loop; raises ClaimLost there when the claim is gone."""

    def __init__(
        self,
        *,
        claim: Claim,
        claims: Claims,
        database: Database,
        clock: Clock,
        publish: Publish,
        delta_payload: Callable[[str], bytes],
    ) -> None:
        self._claim = claim
        self._claims = claims
        self._database = database
        self._clock = clock
        self._publish = publish
        self._delta_payload = delta_payload
        self._waiting: list[Draft | _Gathered] = []
        self._durable: list[Callable[[], None]] = []
        self._spent: Spent | None = None
        self._receipt: Callable[[], bytes] = bytes
        self._size = 0
        self._urgent = asyncio.Event()
        self._something = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self._first_delta = True
        self._closed = False
        self.text: list[str] = []

    def add(self, draft: Draft, durable: Callable[[], None] | None = None) -> None:
        """Append an event; it and all before it go out at once. `durable` is called when it is committed."""
        self._waiting.append(draft)
        if durable is not None:
            self._durable.append(durable)
        self._something.set()
        self._urgent.set()

    def add_delta(self, kind: Kind, text: str) -> None:
        """Let the answer (TEXT_DELTA) or the thinking (REASONING_DELTA) grow."""
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, _Gathered) and last.kind is kind:
            last.pieces.append(text)
        else:
            self._waiting.append(_Gathered(kind, [text]))
        if kind is Kind.TEXT_DELTA:
            self.text.append(text)
        self._size += len(text)
        self._something.set()
        if self._first_delta or self._size >= PLENTY:
            if self._first_delta:
                failpoints.reach("after_first_token")
            self._first_delta = False
            self._urgent.set()
        if self._size >= MOST_UNWRITTEN:
            self._calm.clear()

    def note(self, spent: Spent, receipt: Callable[[], bytes]) -> None:
        """A model step used this; `receipt` makes the turn's receipt so far."""
        self._spent = spent if self._spent is None else self._spent.and_also(spent)
        self._receipt = receipt
        self._something.set()

    async def flushed(self) -> None:
        """Return when all that was added so far is durable. `write` must be running."""
        done = asyncio.Event()
        self._durable.append(done.set)
        self._something.set()
        self._urgent.set()
        await done.wait()

    async def room(self) -> None:
        """Return when there is room for more; immediately, unless the store is far behind."""
        await self._calm.wait()

    async def write(self) -> None:
        """Write what is added until `close`. Raises ClaimLost and StoreUnavailable."""
        while not self._closed or self._waiting or self._durable:
            await self._something.wait()
            await self._gather()
            drafts, self._durable, durable = self._taken(), [], self._durable
            noted = self._noted()
            if drafts or noted:
                await self._database.write(
                    self._claim.session_id,
                    lambda drafts=drafts, noted=noted: self._claims.append(  # type: ignore[misc]
                        self._claim, drafts, self._clock.now_us(), noted
                    ),
                    committed=self._publish,
                )
                failpoints.reach("between_event_batches")
            for tell in durable:
                tell()

    def close(self) -> None:
        """Let `write` return once everything added is durable."""
        self._closed = True
        self._something.set()
        self._urgent.set()

    async def end(self, ending: Ending) -> tuple[Entry, ...]:
        """Write what still waits and the turn's end, in one commit. `write` must not run any more."""
        drafts = self._taken()
        entries = await self._database.write(
            self._claim.session_id,
            lambda: self._claims.end(self._claim, drafts, ending, self._clock.now_us()),
            committed=self._publish,
        )
        failpoints.reach("after_turn_finished_commit")
        return entries

    async def hold(self, holding: Holding) -> tuple[Entry, ...]:
        """Write what still waits and let go of the turn, in one commit. `write` must not run any more."""
        drafts = self._taken()
        return await self._database.write(
            self._claim.session_id,
            lambda: self._claims.hold(self._claim, drafts, holding, self._clock.now_us()),
            committed=self._publish,
        )

    def _noted(self) -> Noted | None:
        """What steps used since the last write; the end of the run tells of all of them."""
        if self._spent is None or self._closed:
            return None
        spent, self._spent = self._spent, None
        return Noted(receipt=self._receipt(), spent=spent)

    async def _gather(self) -> None:
        if not self._urgent.is_set():
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._urgent.wait()
            except TimeoutError:
                pass

    def _taken(self) -> Sequence[Draft]:
        drafts = [self._draft(each) for each in self._waiting]
        self._waiting = []
        self._size = 0
        self._something.clear()
        self._urgent.clear()
        self._calm.set()
        if self._closed:
            self._something.set()
        return drafts

    def _draft(self, waiting: Draft | _Gathered) -> Draft:
        if isinstance(waiting, Draft):
            return waiting
        payload = self._delta_payload("".join(waiting.pieces))
        return Draft(kind=waiting.kind, turn_id=self._claim.turn_id, payload=lambda _sequence, _time: payload)
