"""Receipts on the wire. Pure."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from assistant.chat.v1 import chat_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from context_svc.ledger import Spent
from context_svc.receipts import Kept, Tally

CROWDED = 0.75  # of what a model reads
MANY = 160  # messages


class ReceiptForm:
    """Writes and reads receipts in their stored form: `context_svc.receipts.ReceiptCodec`."""

    def receipt(self, tally: Tally, usage: bytes) -> bytes:
        """A serialised TurnReceipt, without what the turn's row says."""
        result = chat_pb2.TurnReceipt.FromString(tally.earlier)
        for entry in tally.entries:
            _enter(result, turn_pb2.ReceiptEntry.FromString(entry))
        if tally.started:
            started = chat_pb2.TurnStarted.FromString(tally.started)
            result.model.CopyFrom(started.model)
            result.window.CopyFrom(started.window)
        if tally.context_keys:
            result.context_keys[:] = sorted({*result.context_keys, *tally.context_keys})
        _time(result.latencies, tally)
        told = message_pb2.Usage.FromString(usage)
        result.usage.CopyFrom(told if told.ByteSize() else _sum(result))
        return result.SerializeToString()

    def step_spent(self, entry: bytes) -> Spent | None:
        """What a model step used; None for another entry."""
        read = turn_pb2.ReceiptEntry.FromString(entry)
        return _spent(read.step.usage) if read.HasField("step") else None

    def cut_step(self, receipt: bytes, tally: Tally) -> bytes:
        """The entry of the model step that was cut off, empty if none was: after a step without calls none follows."""
        steps = chat_pb2.TurnReceipt.FromString(receipt).steps
        started = chat_pb2.TurnStarted.FromString(tally.started)
        model = started.model
        follows = not steps or steps[-1].finish_reason == message_pb2.FINISH_REASON_TOOL_CALLS
        cut = tally.trail.cut(len(steps)) if follows and model.model and not model.from_cache else None
        if cut is None:
            return b""
        read = started.window.window_tokens + cut.read
        cost = read * model.input_price_micro_usd + cut.written * model.output_price_micro_usd
        used = message_pb2.Usage(
            input_tokens=read,
            output_tokens=cut.written,
            estimated=True,
            cost_micro_usd=-(-cost // 1_000_000),
        )
        step = chat_pb2.StepReceipt(model=model.model, usage=used)
        return turn_pb2.ReceiptEntry(step=step).SerializeToString()

    def waited(self, receipt: bytes, span_us: int) -> bytes:
        """With so much more time that the turn waited for the person."""
        result = chat_pb2.TurnReceipt.FromString(receipt)
        _add(result.latencies.wait, _duration(span_us / 1e6))
        return result.SerializeToString()

    def usage(self, receipt: bytes) -> bytes:
        """What all steps used, serialised."""
        return chat_pb2.TurnReceipt.FromString(receipt).usage.SerializeToString()

    def crowded(self, started: bytes) -> bool:
        """Whether a window was so full that a summary should be made, or left something out."""
        report = chat_pb2.TurnStarted.FromString(started).window
        full = report.window_tokens > CROWDED * report.budget_tokens
        return bool(report.dropped_messages or full or report.kept_messages > MANY)

    def spent(self, receipt: bytes) -> Spent:
        """What all steps used."""
        return _spent(chat_pb2.TurnReceipt.FromString(receipt).usage)

    def is_elsewhere(self, started: bytes) -> bool:
        """Whether a model of somebody else's machines answers; False while that is not known."""
        return bool(started) and not chat_pb2.TurnStarted.FromString(started).model.local


def receipt_response(kept: Kept) -> chat_pb2.GetTurnReceiptResponse:
    """A receipt as the person reads it."""
    receipt = chat_pb2.TurnReceipt.FromString(kept.receipt)
    receipt.turn_id = kept.turn_id
    receipt.state = session_pb2.TurnState.ValueType(kept.state)
    if kept.started:
        started = chat_pb2.ChatEvent.FromString(kept.started).turn_started
        receipt.model.CopyFrom(started.model)
        receipt.window.CopyFrom(started.window)
    if kept.start_us is not None:
        receipt.latencies.queue.CopyFrom(_duration((kept.start_us - kept.create_us) / 1e6))
    if kept.end_us is not None:
        receipt.latencies.total.CopyFrom(_duration((kept.end_us - kept.create_us) / 1e6))
    return chat_pb2.GetTurnReceiptResponse(receipt=receipt)


def _enter(receipt: chat_pb2.TurnReceipt, entry: turn_pb2.ReceiptEntry) -> None:
    match entry.WhichOneof("entry"):
        case "step":
            receipt.steps.append(entry.step)
        case "call":
            receipt.calls.append(entry.call)
            _add(receipt.latencies.tools, entry.call.duration)
        case "egress":
            receipt.egress.append(entry.egress)
        case "window_time":
            _add(receipt.latencies.window, entry.window_time)


def _time(latencies: chat_pb2.StageLatencies, tally: Tally) -> None:
    if tally.accept is not None:
        latencies.accept.CopyFrom(_duration(tally.accept))
    if tally.first_token is not None and not latencies.HasField("first_token"):
        latencies.first_token.CopyFrom(_duration(tally.first_token))


def _sum(receipt: chat_pb2.TurnReceipt) -> message_pb2.Usage:
    total = message_pb2.Usage()
    for step in receipt.steps:
        for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_micro_usd"):
            setattr(total, name, getattr(total, name) + getattr(step.usage, name))
        total.estimated |= step.usage.estimated
    return total


def _spent(usage: message_pb2.Usage) -> Spent:
    return Spent(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost=usage.cost_micro_usd
    )


def _add(total: Duration, more: Duration) -> None:
    total.FromTimedelta(total.ToTimedelta() + more.ToTimedelta())


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=max(0.0, seconds)))
    return duration
