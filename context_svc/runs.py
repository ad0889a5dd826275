"""Running a claimed turn: its material goes to orchestrator_svc, what comes back becomes the log.

However a run ends, its turn ends with exactly one last event: finished, failed or cancelled. Only a lost claim writes
nothing, because then somebody else has ended the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, TypeAlias, assert_never

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.errors import ServiceError, StoreUnavailable
from chassis.tasks import Tasks
from context_svc.claims import Answer, Claim, ClaimLost, Claims, Ending
from context_svc.errors import SessionNotFound
from context_svc.journal import Draft, Kind, Payload, Publish
from context_svc.known import Known, known
from context_svc.messages import Branch, branch
from context_svc.turn_log import TurnLog
from context_svc.turns import TurnState

log = telemetry.logger(__name__)

SILENCE = 35.0  # seconds without a frame after which orchestrator_svc counts as frozen
LAST_WORDS = 2.0  # seconds a cancelled run has to end by itself
PREVIEW = 200  # characters
_RESTARTED = "The assistant was restarted while it answered."
WINDOW, MODEL, TOOL = 2, 3, 4  # stages of a turn, the contract's numbers
_BEGINS = {Kind.TURN_STARTED: MODEL, Kind.TOOL_STARTED: TOOL, Kind.TOOL_FINISHED: MODEL}


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The answer grew."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The model thought aloud."""

    text: str


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the turn that is passed on as it is."""

    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Over:
    """The turn ended in orchestrator_svc. `message` is the answer's body, empty when nothing was said."""

    state: TurnState
    message: bytes
    text: str
    usage: bytes
    reason: str = ""
    explanation: str = ""
    retryable: bool = False
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing to say, but at work."""


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """An entry of the turn's receipt, serialised."""

    data: bytes


Frame: TypeAlias = TextDelta | ReasoningDelta | Happened | Over | Alive | ReceiptEntry


class Purpose(IntEnum):
    """What a run is for. The contract's numbers."""

    ANSWER = 1
    TITLE = 3
    MEMORY = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What a turn is run with."""

    claim: Claim
    branch: Branch
    settings: bytes
    time_us: int
    purpose: Purpose = Purpose.ANSWER
    known: Known = field(default_factory=Known)


class TurnStream(Protocol):
    """A turn that runs in orchestrator_svc."""

    def frames(self) -> AsyncIterator[Frame]:
        """What it makes, ending with Over. Raises PeerLost when the room breaks off."""

    async def cancel(self) -> None:
        """Ask it to stop; Over follows."""


class Orchestrator(Protocol):
    """Where turns run: `context_svc.peers` dials it."""

    def run(self, material: Material) -> AbstractAsyncContextManager[TurnStream]:
        """Open a turn; leaving the block stops whatever still runs of it."""


class RunCodec(Protocol):
    """Writes what a run puts into the log."""

    def text_delta(self, text: str) -> bytes:
        """A serialised TextDelta; ReasoningDelta has the same form."""

    def delta_text(self, event: bytes) -> str:
        """The text of a serialised ChatEvent that holds a TextDelta."""

    def answer(self, body: bytes, claim: Claim, *, partial: bool, sequence: int, time_us: int) -> bytes:
        """The stored form of the agent's message."""

    def partial_body(self, text: str) -> bytes:
        """The body of an answer that broke off."""

    def turn_finished(self, message: bytes, usage: bytes) -> bytes:
        """A serialised TurnFinished."""

    def turn_failed(self, over: Over, partial: bytes) -> bytes:
        """A serialised TurnFailed."""

    def turn_cancelled(self, partial: bytes, usage: bytes, device_id: str) -> bytes:
        """A serialised TurnCancelled."""


@dataclass(slots=True)
class _Running:
    """One run in this process. `stop` is set once somebody asked it to end."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    device_id: str = ""
    stage: int = WINDOW
    cut: asyncio.Event = field(default_factory=asyncio.Event)


class Runs:
    """Performs claimed turns, and ends those of dead owners."""

    def __init__(
        self,
        *,
        database: Database,
        claims: Claims,
        orchestrator: Orchestrator,
        codec: RunCodec,
        publish: Publish,
        clock: Clock,
    ) -> None:
        self._database = database
        self._claims = claims
        self._orchestrator = orchestrator
        self._codec = codec
        self._publish = publish
        self._clock = clock
        self._running: dict[str, _Running] = {}

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

    def cut_off(self) -> None:
        """End every run of this process as failed, with what it has said: the process stops."""
        for running in self._running.values():
            running.cut.set()

    async def perform(self, material: Material) -> bool:
        """Run a claimed turn to its end. False: its end could not be stored; `bury` must be tried later."""
        claim = material.claim
        running = self._running[claim.turn_id] = _Running()
        if claim.cancel_device is not None:
            self.stop(claim.turn_id, claim.cancel_device)
        try:
            await self._perform(material, running)
        except (ClaimLost, SessionNotFound):  # another owner has it, or its session was deleted
            log.warning("a claim was lost", turn=claim.turn_id, attempt=claim.attempt)
        except StoreUnavailable as error:
            log.error("a turn could not be stored", error=error, turn=claim.turn_id)
            return False
        finally:
            del self._running[claim.turn_id]
        return True

    async def bury(self, claim: Claim) -> None:
        """End the turn of a dead owner, with what it had said."""
        now_us = self._clock.now_us()
        body = await self._database.read(lambda: said_so_far(claim, self._codec))
        over = Over(
            state=TurnState.FAILED,
            message=body,
            text="",
            usage=b"",
            reason="OWNER_LOST",
            explanation=_RESTARTED,
            retryable=True,
        )
        with suppress(ClaimLost, SessionNotFound):  # another replica was faster
            await self._database.write(
                claim.session_id,
                lambda: self._claims.end(claim, (), self._ending(claim, over, "", b""), now_us),
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
        receipt: list[bytes] = []
        async with Tasks() as tasks:
            writing = tasks.spawn("write a turn", pen.write())
            telling = tasks.spawn("run a turn", self._stream(material, running, pen, receipt))
            await asyncio.wait({writing, telling}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()  # it ends early only by a fault
            over = self._outcome(telling, running, pen)
            pen.close()
            await writing
        await pen.end(self._ending(claim, over, running.device_id, b"".join(receipt)))

    def _outcome(self, telling: asyncio.Task[Over], running: _Running, pen: TurnLog) -> Over:
        error = telling.exception()
        match error:
            case None:
                return telling.result()
            case TimeoutError() if running.cut.is_set():
                return self._broken(running, pen, "OWNER_LOST", _RESTARTED)
            case TimeoutError():
                return self._broken(running, pen, "FROZEN", "The assistant made no progress.")
            case ServiceError():
                return self._broken(running, pen, error.reason, error.message)
            case _:
                return self._broken(running, pen, "INTERNAL", "Something went wrong.")

    async def _stream(
        self, material: Material, running: _Running, pen: TurnLog, receipt: list[bytes]
    ) -> Over:
        loop = asyncio.get_running_loop()
        async with (
            asyncio.timeout(SILENCE) as patience,
            self._orchestrator.run(material) as stream,
            Tasks() as tasks,
        ):
            tasks.spawn("cancel a turn", _cancel_when(running, stream, patience))
            tasks.spawn("cut a turn off", _cut_when(running, patience))
            async for frame in stream.frames():
                if not running.stop.is_set() and not running.cut.is_set():
                    patience.reschedule(loop.time() + SILENCE)
                if isinstance(frame, Over):
                    return frame
                if isinstance(frame, Happened):
                    running.stage = _BEGINS.get(frame.kind, running.stage)
                self._note(material.claim, frame, pen, receipt)
                await pen.room()
        return self._broken(running, pen, "PEER_UNAVAILABLE", "The assistant broke off.")

    def _note(self, claim: Claim, frame: Frame, pen: TurnLog, receipt: list[bytes]) -> None:
        match frame:
            case TextDelta(text):
                pen.add_delta(Kind.TEXT_DELTA, text)
            case ReasoningDelta(text):
                pen.add_delta(Kind.REASONING_DELTA, text)
            case Happened(kind, payload):
                pen.add(Draft(kind=kind, turn_id=claim.turn_id, payload=constant(payload)))
            case ReceiptEntry(data):
                receipt.append(data)
            case Alive() | Over():
                pass
            case _:
                assert_never(frame)

    def _broken(self, running: _Running, pen: TurnLog, reason: str, explanation: str) -> Over:
        text = "".join(pen.text)
        cancelled = running.stop.is_set()
        return Over(
            state=TurnState.CANCELLED if cancelled else TurnState.FAILED,
            message=self._codec.partial_body(text) if text else b"",
            text=text,
            usage=b"",
            reason="" if cancelled else reason,
            explanation=explanation,
            retryable=True,
            stage=running.stage,
        )

    def _ending(self, claim: Claim, over: Over, device_id: str, receipt: bytes) -> Ending:
        partial = over.state is not TurnState.FINISHED

        def answer(sequence: int, time_us: int) -> bytes:
            if not over.message:
                return b""
            return self._codec.answer(
                over.message, claim, partial=partial, sequence=sequence, time_us=time_us
            )

        kind, payload = self._last_event(over, answer, device_id)
        return Ending(
            state=over.state,
            draft=Draft(kind=kind, turn_id=claim.turn_id, payload=payload),
            answer=Answer(preview=over.text[:PREVIEW], data=answer) if over.message else None,
            reason=over.reason,
            receipt=receipt,
        )

    def _last_event(self, over: Over, answer: Payload, device_id: str) -> tuple[Kind, Payload]:
        codec = self._codec
        match over.state:
            case TurnState.FINISHED:
                return Kind.TURN_FINISHED, lambda s, t: codec.turn_finished(answer(s, t), over.usage)
            case TurnState.CANCELLED:
                return Kind.TURN_CANCELLED, lambda s, t: codec.turn_cancelled(
                    answer(s, t), over.usage, device_id
                )
            case _:
                return Kind.TURN_FAILED, lambda s, t: codec.turn_failed(over, answer(s, t))


def constant(payload: bytes) -> Payload:
    """A payload that does not depend on the event's number or time."""
    return lambda _sequence, _time: payload


def gather(claim: Claim, now_us: int) -> Unit[Material]:
    """Everything the turn is run with."""
    rows = yield Statement("SELECT settings FROM session WHERE id = :session", {"session": claim.session_id})
    read = yield from branch(claim.session_id, claim.message_id)
    return Material(
        claim=claim,
        branch=read,
        settings=bytes(rows[0]["settings"] or b""),
        time_us=now_us,
        known=(yield from known(claim.account_id, claim.session_id, now_us)),
    )


def said_so_far(claim: Claim, codec: RunCodec) -> Unit[bytes]:
    """The body of what the last attempt of a turn had said; empty when nothing."""
    rows = yield Statement(
        "SELECT kind, data FROM event WHERE session_id = :session AND sequence > :accepted"
        " AND turn_id = :turn AND kind IN (11, 12) ORDER BY sequence",
        {"session": claim.session_id, "accepted": claim.accepted_sequence, "turn": claim.turn_id},
    )
    pieces: list[str] = []
    for row in rows:
        if row["kind"] == Kind.TURN_STARTED:
            pieces.clear()
        else:
            pieces.append(codec.delta_text(row["data"]))
    return codec.partial_body("".join(pieces)) if pieces else b""


async def _cancel_when(running: _Running, stream: TurnStream, patience: asyncio.Timeout) -> None:
    await running.stop.wait()
    patience.reschedule(asyncio.get_running_loop().time() + LAST_WORDS)
    await stream.cancel()


async def _cut_when(running: _Running, patience: asyncio.Timeout) -> None:
    await running.cut.wait()
    patience.reschedule(asyncio.get_running_loop().time())
