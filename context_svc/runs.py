"""Running a claimed turn: its material goes to orchestrator_svc, what comes back becomes the log.

However a run ends, its turn ends with exactly one last event: finished, failed or cancelled. Only a lost claim writes
nothing, because then somebody else has ended the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol, assert_never

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.errors import ServiceError, StoreUnavailable
from chassis.tasks import Tasks
from context_svc import erasures
from context_svc.claims import Claim, ClaimLost, Claims
from context_svc.cut_runs import LogCodec, remains
from context_svc.cut_steps import Trail
from context_svc.endings import Over, ending
from context_svc.errors import PeerUnavailable, SessionNotFound
from context_svc.journal import Draft, Kind, Publish
from context_svc.known import Known, known
from context_svc.leavings import Left
from context_svc.messages import NOTHING, Branch, branch
from context_svc.receipts import Arrivals, Tally, used
from context_svc.run_frames import (
    Alive,
    Call,
    Frame,
    Happened,
    HostCalled,
    ReasoningDelta,
    ReceiptEntry,
    TextDelta,
    audited,
    constant,
)
from context_svc.summary_rows import Summary, joined
from context_svc.turn_log import TurnLog
from context_svc.turn_rows import TurnState
from context_svc.waiting import Suspended, WaitCodec, Waiting, answers

log = telemetry.logger(__name__)

SILENCE = 35.0  # seconds without a frame after which orchestrator_svc counts as frozen
LAST_WORDS = 2.0  # seconds a cancelled run has to end by itself
_RESTARTED = "The assistant was restarted while it answered."
WINDOW, MODEL, TOOL = 2, 3, 4  # stages of a turn, the contract's numbers
_BEGINS = {Kind.TURN_STARTED: MODEL, Kind.TOOL_STARTED: TOOL, Kind.TOOL_FINISHED: MODEL}
SUMMARISED = 6  # messages of the shortest branch that a summary can stand for a part of
_GONE = (ClaimLost, SessionNotFound)  # another owner has the turn, or its session was deleted
IN_DOUBT = "An action may or may not have happened. Check before you try again."


class Purpose(IntEnum):
    """What a run is for. The contract's numbers."""

    ANSWER = 1
    ACTION = 2
    TITLE = 3
    SUMMARY = 4
    MEMORY = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What a turn is run with. `answers` is what the person said to what it waited for."""

    claim: Claim
    branch: Branch
    settings: bytes
    time_us: int
    purpose: Purpose = Purpose.ANSWER
    summary: Summary | None = None
    answers: tuple[bytes, ...] = ()
    known: Known = field(default_factory=Known)
    cache_epoch: int = 0


class TurnStream(Protocol):
    """A turn that runs in orchestrator_svc. `context_keys` names what of its context it was given."""

    context_keys: tuple[str, ...]

    def frames(self) -> AsyncIterator[Frame]:
        """What it makes, ending with Over or Suspended. Raises PeerLost when the room breaks off."""

    async def cancel(self) -> None:
        """Ask it to stop; Over follows."""

    async def give_back(self) -> None:
        """Ask it to stop at its next step boundary; Suspended follows, or Over when there is none."""

    async def effect_recorded(self, call_id: str) -> None:
        """Let an action with effects run: that it starts is durable."""

    async def host_result(self, finished: bytes) -> None:
        """Tell how an action of this room ended: a serialised ToolFinished, which is durable."""


class Orchestrator(Protocol):
    """Where turns run: `context_svc.peers` dials it."""

    def run(self, material: Material) -> AbstractAsyncContextManager[TurnStream]:
        """Open a turn; leaving the block stops whatever still runs of it."""


class Host(Protocol):
    """Performs the actions of this room, and keeps what actions leave behind: `context_svc.hosting`."""

    async def perform(self, material: Material, call: HostCalled, agent: str) -> bytes:
        """Perform a call; its serialised ToolFinished, durable. Raises ClaimLost and StoreUnavailable."""

    async def leave(self, claim: Claim, happened: Happened, left: Left, ended: Call) -> bytes:
        """Keep what an action left behind with its ToolFinished. Raises ClaimLost and StoreUnavailable."""


class RunCodec(WaitCodec, LogCodec, Protocol):
    """Writes what a run puts into the log."""

    def text_delta(self, text: str) -> bytes:
        """A serialised TextDelta; ReasoningDelta has the same form."""

    def partial_body(self, text: str) -> bytes:
        """The body of an answer that broke off."""

    def tool_stopped(self, call: Call, *, in_doubt: bool) -> bytes:
        """A serialised ToolFinished of an action that was cut off."""


@dataclass(slots=True)
class _Running:
    """One run in this process. `stop` is set once somebody asked it to end.

    `effects` are the actions with effects on their way, `may_run` those of them that were let run, `agents` those of
    all actions.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    device_id: str = ""
    stage: int = WINDOW
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    effects: dict[str, Call] = field(default_factory=dict)
    may_run: set[str] = field(default_factory=set)
    agents: dict[str, str] = field(default_factory=dict)
    hosted: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    recorded: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    tally: Tally = field(default_factory=Tally)

    def note(self, happened: Happened) -> Callable[[], None] | None:
        """Keep track of actions with effects; what to do once the event is durable."""
        call = happened.call
        if call is None:
            return None
        if happened.kind is Kind.TOOL_FINISHED:
            self.effects.pop(call.id, None)
            return None
        self.agents[call.id] = call.agent
        if call.effect:
            self.effects[call.id] = call
            return lambda: self._record(call.id)
        return None

    def audit(self, happened: Happened) -> str:
        """What the audit log tells of the end of an action; empty for everything else."""
        call = happened.call
        if call is None or happened.kind is not Kind.TOOL_FINISHED:
            return ""
        return audited(call, self.agents.get(call.id, ""), call.outcome)

    def _record(self, call_id: str) -> None:
        if call_id in self.effects:
            self.may_run.add(call_id)
            self.recorded.put_nowait(call_id)


class Runs:
    """Performs claimed turns, and ends those of dead owners."""

    def __init__(
        self,
        *,
        database: Database,
        claims: Claims,
        orchestrator: Orchestrator,
        codec: RunCodec,
        waiting: Waiting,
        publish: Publish,
        clock: Clock,
        host: Host,
    ) -> None:
        self._host = host
        self._database = database
        self._claims = claims
        self._orchestrator = orchestrator
        self._codec = codec
        self._publish = publish
        self._clock = clock
        self._waiting = waiting
        self._running: dict[str, _Running] = {}
        self._busy = asyncio.Event()
        self._leaving = asyncio.Event()
        self.arrivals = Arrivals()

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, turn_id: str) -> bool:
        return turn_id in self._running

    def stop(self, turn_id: str, device_id: str) -> None:
        """Ask a run of this process to end as cancelled; one that is not here is not affected."""
        running = self._running.get(turn_id)
        if running is not None and not running.stop.is_set():
            running.device_id = device_id
            running.stop.set()

    def give_back(self) -> None:
        """Let every run of this process, also one that only begins, go on elsewhere from its next step boundary."""
        self._leaving.set()

    def cut_off(self) -> None:
        """End every run of this process as failed, with what it has said: the process stops."""
        for running in self._running.values():
            running.cut.set()

    async def busy(self) -> None:
        """Return as soon as a turn runs here."""
        await self._busy.wait()

    async def perform(self, material: Material) -> bool:
        """Run a claimed turn to its end. False: its end could not be stored; `bury` must be tried later."""
        claim = material.claim
        running = self._running[claim.turn_id] = _Running()
        self._busy.set()
        if claim.cancel_device is not None:
            self.stop(claim.turn_id, claim.cancel_device)
        try:
            await self._perform(material, running)
        except _GONE:
            log.warning("a claim was lost", turn=claim.turn_id, attempt=claim.attempt)
            await self._settle(claim, running.tally)
        except StoreUnavailable as error:
            log.error("a turn could not be stored", error=error, turn=claim.turn_id)
            return False
        finally:
            del self._running[claim.turn_id]
            if not self._running:
                self._busy.clear()
        return True

    async def bury(self, claim: Claim) -> None:
        """End the turn of a dead owner, with what it had said. An effect it had begun is in doubt for good."""
        now_us = self._clock.now_us()
        left = await self._database.read(lambda: remains(claim, self._codec))
        tally = Tally(earlier=left.receipt, started=left.started, trail=left.trail)
        over = Over(
            state=TurnState.FAILED if claim.cancel_device is None else TurnState.CANCELLED,
            message=self._codec.partial_body(left.text) if left.text else b"",
            text=left.text,
            usage=used(self._codec, tally),
            reason="EFFECT_IN_DOUBT" if left.calls else "OWNER_LOST",
            explanation=IN_DOUBT if left.calls else _RESTARTED,
            retryable=not left.calls,
        )
        over, claim = self._whole(claim, over), replace(claim, receipt=left.receipt)
        last = ending(self._codec, claim, over, claim.cancel_device or "", tally)
        if last.spent is not None:  # beyond what was noted
            last = replace(last, spent=None, unnoted=last.spent)
        drafts = [self._cut_off(claim, call, in_doubt=True) for call in left.calls]
        with suppress(*_GONE):
            await self._database.write(
                claim.session_id,
                lambda: self._claims.end(claim, drafts, last, now_us),
                committed=self._publish,
            )

    async def _perform(self, material: Material, running: _Running) -> None:
        claim = material.claim
        pen = TurnLog(
            claim=claim,
            claims=self._claims,
            database=self._database,
            clock=self._clock,
            publish=self._publish,
            delta_payload=self._codec.text_delta,
        )
        tally = running.tally = Tally(
            earlier=claim.receipt, accept=self.arrivals.take(claim.turn_id), began=self._clock.monotonic()
        )
        async with Tasks() as tasks:
            writing = tasks.spawn("write a turn", pen.write(), heard=(*_GONE, StoreUnavailable))
            telling = tasks.spawn("run a turn", self._stream(material, running, pen, tally))
            await asyncio.wait({writing, telling}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()  # it ends early only by a fault
            over = self._outcome(telling, claim, running, pen)
            pen.close()
            await writing
        if isinstance(over, Suspended):
            await pen.hold(self._waiting.stop(claim, over, tally))
        else:
            await pen.end(ending(self._codec, claim, over, running.device_id, tally))

    def _outcome(
        self, telling: asyncio.Task[Over | Suspended], claim: Claim, running: _Running, pen: TurnLog
    ) -> Over | Suspended:
        error = telling.exception()
        match error:
            case None:
                return telling.result()
            case TimeoutError() if running.cut.is_set():
                return self._broken(claim, running, pen, "OWNER_LOST", _RESTARTED)
            case TimeoutError():
                reason, explanation = "FROZEN", "The assistant made no progress."
            case ServiceError():
                reason, explanation = error.reason, error.message
            case _:
                reason, explanation = "INTERNAL", "Something went wrong."
        return self._broken(claim, running, pen, reason, explanation)

    async def _stream(
        self, material: Material, running: _Running, pen: TurnLog, tally: Tally
    ) -> Over | Suspended:
        loop = asyncio.get_running_loop()
        async with (
            asyncio.timeout(SILENCE) as patience,
            self._orchestrator.run(material) as stream,
            Tasks() as tasks,
        ):
            tasks.spawn("cancel a turn", _cancel_when(running, stream, patience))
            tasks.spawn("cut a turn off", _cut_when(running, patience))
            tasks.spawn("give a turn back", _give_back_when(self._leaving, stream))
            tally.context_keys = stream.context_keys
            tasks.spawn("let effects run", _let_run(running, stream))
            async for frame in stream.frames():
                if not running.stop.is_set() and not running.cut.is_set():
                    patience.reschedule(loop.time() + SILENCE)
                if isinstance(frame, Happened):
                    running.stage = _BEGINS.get(frame.kind, running.stage)
                    _follow(frame, tally.trail)
                match frame:
                    case Over() | Suspended():
                        await _all_of(running.hosted.values())
                        return frame
                    case HostCalled():
                        work = self._perform_here(material, frame, running, pen, stream)
                        running.hosted[frame.id] = tasks.spawn("perform an action", work)
                    case Happened(call=Call() as call) if call.id in running.hosted:
                        pass  # it was told, or will be, with what the action did here
                    case Happened(call=Call() as call, left=Left() as left):
                        running.note(frame)
                        await pen.flushed()
                        ended = replace(call, agent=running.agents.get(call.id, ""))
                        await self._host.leave(material.claim, frame, left, ended)
                    case _:
                        self._note(material.claim, frame, running, pen, tally)
                await pen.room()
        raise PeerUnavailable("the stream of a turn ended early")

    async def _perform_here(
        self, material: Material, call: HostCalled, running: _Running, pen: TurnLog, stream: TurnStream
    ) -> None:
        await pen.flushed()  # that it began comes first
        agent = running.agents.get(call.id, "")
        finished = await self._host.perform(material, call, agent)
        running.tally.trail.ended(call.id, len(finished))
        await stream.host_result(finished)

    async def _settle(self, claim: Claim, tally: Tally) -> None:
        """Charge a run whose turn is gone, unless whoever ended the turn has done so."""
        used(self._codec, tally)
        before, after = (self._codec.spent(each) for each in (claim.receipt, self._codec.receipt(tally, b"")))
        spent = after.beyond(before)
        await self._database.write(claim.account_id, lambda: self._claims.ledger.settle(claim.turn_id, spent))

    def _note(self, claim: Claim, frame: Frame, running: _Running, pen: TurnLog, tally: Tally) -> None:
        match frame:
            case TextDelta(text):
                tally.token(self._clock.monotonic())
                tally.trail.said(text)
                pen.add_delta(Kind.TEXT_DELTA, text)
            case ReasoningDelta(text):
                tally.trail.said(text)
                pen.add_delta(Kind.REASONING_DELTA, text)
            case Happened(kind, payload):
                if kind is Kind.TURN_STARTED:
                    tally.started = payload
                draft = Draft(
                    kind=kind, turn_id=claim.turn_id, payload=constant(payload), audit=running.audit(frame)
                )
                pen.add(draft, running.note(frame))
            case ReceiptEntry(data):
                tally.entries.append(data)
                if (spent := self._codec.step_spent(data)) is not None:
                    pen.note(spent, lambda: self._codec.receipt(tally, b""))
            case Alive() | HostCalled() | Over() | Suspended():
                pass
            case _:
                assert_never(frame)

    def _broken(self, claim: Claim, running: _Running, pen: TurnLog, reason: str, explanation: str) -> Over:
        """The end of a run that was cut off. An effect that was let run may or may not have happened."""
        for call in running.effects.values():
            pen.add(self._cut_off(claim, call, in_doubt=call.id in running.may_run))
        in_doubt = bool(running.may_run & running.effects.keys())
        text = "".join(pen.text)
        cancelled = running.stop.is_set()
        over = Over(
            state=TurnState.CANCELLED if cancelled else TurnState.FAILED,
            message=self._codec.partial_body(text) if text else b"",
            text=text,
            usage=used(self._codec, running.tally),
            reason="" if cancelled else "EFFECT_IN_DOUBT" if in_doubt else reason,
            explanation=IN_DOUBT if in_doubt else explanation,
            retryable=not in_doubt,
            stage=running.stage,
        )
        return self._whole(claim, over)

    def _whole(self, claim: Claim, over: Over) -> Over:
        """With what was said and used before the turn stopped on its way, if it did."""
        return self._codec.stopped_at(claim.resumption, over) if claim.resumption else over

    def _cut_off(self, claim: Claim, call: Call, *, in_doubt: bool) -> Draft:
        payload = self._codec.tool_stopped(call, in_doubt=in_doubt)
        return Draft(
            kind=Kind.TOOL_FINISHED,
            turn_id=claim.turn_id,
            payload=constant(payload),
            audit=audited(call, call.agent, "in_doubt" if in_doubt else "cancelled"),
        )


def gather(claim: Claim, now_us: int) -> Unit[Material]:
    """Everything the turn is run with."""
    rows = yield Statement("SELECT settings FROM session WHERE id = :session", {"session": claim.session_id})
    read = NOTHING if claim.action is not None else (yield from branch(claim.session_id, claim.message_id))
    summary = None
    if len(read.messages) >= SUMMARISED or read.earlier:
        read, summary = yield from joined(claim.session_id, read)
    return Material(
        claim=claim,
        branch=read,
        settings=bytes(rows[0]["settings"] or b""),
        time_us=now_us,
        purpose=Purpose.ANSWER if claim.action is None else Purpose.ACTION,
        answers=(yield from answers(claim)) if claim.resumption else (),
        known=(yield from known(claim.account_id, claim.session_id, now_us)),
        summary=summary,
        cache_epoch=(yield from erasures.epoch()),
    )


def _follow(happened: Happened, trail: Trail) -> None:
    """Keep track of which model step is at its model."""
    call = happened.call
    if call is not None and happened.kind is Kind.TOOL_STARTED:
        trail.began(call.id, call.step)
    elif call is not None:
        trail.ended(call.id, len(happened.payload))


async def _all_of(works: Iterable[asyncio.Task[None]]) -> None:
    for work in works:
        await work


async def _let_run(running: _Running, stream: TurnStream) -> None:
    while True:
        await stream.effect_recorded(await running.recorded.get())


async def _cancel_when(running: _Running, stream: TurnStream, patience: asyncio.Timeout) -> None:
    await running.stop.wait()
    patience.reschedule(asyncio.get_running_loop().time() + LAST_WORDS)
    await stream.cancel()


async def _give_back_when(leaving: asyncio.Event, stream: TurnStream) -> None:
    await leaving.wait()
    await stream.give_back()


async def _cut_when(running: _Running, patience: asyncio.Timeout) -> None:
    await running.cut.wait()
    patience.reschedule(asyncio.get_running_loop().time())
