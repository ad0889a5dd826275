"""The event stream of Cohere's chat, version 2, without I/O: bytes in, deltas out."""

from __future__ import annotations

import msgspec

from llm_svc.errors import ProviderFailed, ProviderGarbage, ProviderTimeout
from llm_svc.generation import Delta, Finished, FinishReason, ReasoningDelta, Request, TextDelta, Usage
from llm_svc.providers.chat_stream import MAX_ANSWER_CHARS
from llm_svc.providers.event_lines import DataLines
from llm_svc.providers.pending_calls import PendingCalls
from llm_svc.tokens import estimate, estimate_text

_REASONS = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
}


class _Content(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: _Content | list[object] | None = None
    tool_plan: str | None = None
    tool_calls: _Call | list[object] | None = None


class _Tokens(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Usage(msgspec.Struct):
    tokens: _Tokens | None = None
    billed_units: _Tokens | None = None
    cached_tokens: float | None = None


class _Delta(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class Decoder:
    """See EventDecoder. What it plans to do with its tools is told as reasoning."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._lines = DataLines()
        self._calls = PendingCalls(request)
        self._reason: FinishReason | None = None
        self._usage: _Usage | None = None
        self._size = 0
        self.done = False

    @property
    def progress(self) -> int:
        """Grows with each word, and with each fragment of a call."""
        return self._size + self._calls.size

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas these bytes complete, in order; none after ``done``."""
        deltas: list[Delta] = []
        for payload in self._lines.feed(data):
            if not self.done and payload and payload != b"[DONE]":
                self._event(payload, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The stream is over: whole tool calls, usage, finish. Raises ProviderFailed if it was cut."""
        if self._reason is None:
            raise ProviderFailed
        calls = self._calls.whole()
        reason = FinishReason.TOOL_CALLS if calls else self._reason
        if reason is FinishReason.TOOL_CALLS and not calls:
            reason = FinishReason.STOP
        return [*calls, self._whole_usage(), Finished(reason)]

    def _event(self, payload: bytes, deltas: list[Delta]) -> None:
        try:
            event = _decode_event(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as broken:
            raise ProviderGarbage from broken
        delta = event.delta or _Delta()
        match event.type:
            case "content-delta" | "content-start" | "tool-plan-delta":
                self._message(delta.message or _Message(), deltas)
            case "tool-call-start" | "tool-call-delta":
                self._fragment(event.index, delta.message or _Message())
            case "message-end":
                self._end(delta)
            case _:
                pass  # message-start, the ends of its parts, citations

    def _message(self, message: _Message, deltas: list[Delta]) -> None:
        content = message.content if isinstance(message.content, _Content) else _Content()
        if content.text:
            self._say(TextDelta(content.text), deltas)
        if thought := content.thinking or message.tool_plan:
            self._say(ReasoningDelta(thought), deltas)

    def _say(self, delta: TextDelta | ReasoningDelta, deltas: list[Delta]) -> None:
        self._size += len(delta.text)
        if self._size > MAX_ANSWER_CHARS:
            raise ProviderGarbage
        last = deltas[-1] if deltas else None
        if isinstance(last, TextDelta) and isinstance(delta, TextDelta):
            deltas[-1] = TextDelta(last.text + delta.text)
        else:
            deltas.append(delta)

    def _fragment(self, index: int, message: _Message) -> None:
        if isinstance(call := message.tool_calls, _Call):
            function = call.function or _Function()
            self._calls.add(index, id=call.id, name=function.name, arguments=function.arguments)

    def _end(self, delta: _Delta) -> None:
        self.done = True
        self._usage = delta.usage
        if delta.finish_reason == "TIMEOUT":
            raise ProviderTimeout
        if delta.finish_reason == "ERROR":
            raise ProviderFailed
        self._reason = _REASONS.get(delta.finish_reason or "", FinishReason.STOP)

    def _whole_usage(self) -> Usage:
        usage = self._usage or _Usage()
        counted = usage.tokens or usage.billed_units
        if counted is None:
            read, written = estimate(self._request).tokens, estimate_text("x" * self._size)
            return Usage(input_tokens=read, output_tokens=written, estimated=True)
        return Usage(
            input_tokens=int(counted.input_tokens or 0),
            output_tokens=int(counted.output_tokens or 0),
            cached_tokens=int(usage.cached_tokens or 0),
        )
