"""The event stream of Anthropic's Messages API, without I/O: bytes in, deltas out."""

from __future__ import annotations

import msgspec

from llm_svc.errors import ProviderFailed, ProviderGarbage
from llm_svc.generation import Delta, Finished, FinishReason, ReasoningDelta, Request, TextDelta, Usage
from llm_svc.providers.anthropic_body import Thought, encode_thought
from llm_svc.providers.chat_stream import MAX_ANSWER_CHARS
from llm_svc.providers.event_lines import DataLines
from llm_svc.providers.pending_calls import PendingCalls
from llm_svc.providers.refusal import refusal

_NULL = msgspec.Raw(b"null")
_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}


class _Details(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _Details | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    data: str | None = None


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = _NULL


_decode_event = msgspec.json.Decoder(_Event).decode


class Decoder:
    """See EventDecoder. A thought's signature comes as a delta without text; it closes the thought."""

    def __init__(self, request: Request) -> None:
        self._lines = DataLines()
        self._calls = PendingCalls(request)
        self._reason: FinishReason | None = None
        self._read = self._cached = self._stored = self._wrote = self._thought = 0
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
            if not self.done:
                self._event(payload, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The stream is over: whole tool calls, usage, finish. Raises ProviderFailed if it was cut."""
        if self._reason is None or not self.done:
            raise ProviderFailed
        calls = self._calls.whole()
        reason = FinishReason.TOOL_CALLS if calls else self._reason
        if reason is FinishReason.TOOL_CALLS and not calls:
            reason = FinishReason.STOP
        return [*calls, self._usage(), Finished(reason)]

    def _event(self, payload: bytes, deltas: list[Delta]) -> None:
        try:
            event = _decode_event(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as broken:
            raise ProviderGarbage from broken
        match event.type:
            case "content_block_delta":
                self._delta(event, deltas)
            case "content_block_start":
                self._block(event, deltas)
            case "message_start":
                if event.message and event.message.usage:
                    self._count(event.message.usage)
                    deltas.append(self._usage())  # for a step that is cut off
            case "message_delta":
                self._count(event.usage)
                if event.delta and event.delta.stop_reason:
                    self._reason = _REASONS.get(event.delta.stop_reason, FinishReason.STOP)
            case "message_stop":
                self.done = True
            case "error":
                raise refusal(0, b'{"error":' + bytes(event.error) + b"}")
            case _:
                pass  # ping, content_block_stop, and what may come to be

    def _delta(self, event: _Event, deltas: list[Delta]) -> None:
        delta = event.delta
        if delta is None:
            return
        if delta.text:
            self._say(TextDelta(delta.text), len(delta.text), deltas)
        elif delta.partial_json:
            self._calls.add(event.index, id=None, name=None, arguments=delta.partial_json)
        elif delta.thinking:
            self._say(ReasoningDelta(delta.thinking), len(delta.thinking), deltas)
        elif delta.signature:
            state = encode_thought(Thought(signature=delta.signature))
            self._say(ReasoningDelta("", state), len(state), deltas)

    def _block(self, event: _Event, deltas: list[Delta]) -> None:
        block = event.content_block or _Block()
        if block.type == "tool_use":
            self._calls.add(event.index, id=block.id, name=block.name, arguments=None)
        elif block.type == "redacted_thinking" and block.data:
            state = encode_thought(Thought(redacted=block.data))
            self._say(ReasoningDelta("", state), len(state), deltas)
        elif block.text:
            self._say(TextDelta(block.text), len(block.text), deltas)

    def _say(self, delta: TextDelta | ReasoningDelta, size: int, deltas: list[Delta]) -> None:
        """Add a delta; adjacent text is joined."""
        self._size += size
        if self._size > MAX_ANSWER_CHARS:
            raise ProviderGarbage
        last = deltas[-1] if deltas else None
        if isinstance(last, TextDelta) and isinstance(delta, TextDelta):
            deltas[-1] = TextDelta(last.text + delta.text)
        else:
            deltas.append(delta)

    def _count(self, usage: _Usage | None) -> None:
        """Counts are of the whole message so far: the later one stands."""
        if usage is None:
            return
        if usage.input_tokens is not None:
            self._read = usage.input_tokens
        if usage.cache_read_input_tokens is not None:
            self._cached = usage.cache_read_input_tokens
        if usage.cache_creation_input_tokens is not None:
            self._stored = usage.cache_creation_input_tokens
        if usage.output_tokens is not None:
            self._wrote = usage.output_tokens
        if usage.output_tokens_details is not None:
            self._thought = usage.output_tokens_details.thinking_tokens or 0

    def _usage(self) -> Usage:
        return Usage(
            input_tokens=self._read + self._cached + self._stored,
            output_tokens=self._wrote,
            cached_tokens=self._cached,
            stored_tokens=self._stored,
            reasoning_tokens=self._thought,
        )
