"""The event stream of a chat completion, without I/O: bytes in, deltas out."""

from __future__ import annotations

import msgspec

from llm_svc.errors import ProviderFailed, ProviderGarbage
from llm_svc.generation import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    Request,
    TextDelta,
    Usage,
)
from llm_svc.providers.event_lines import DataLines
from llm_svc.providers.pending_calls import PendingCalls
from llm_svc.providers.refusal import refusal
from llm_svc.tokens import estimate, estimate_text

MAX_ANSWER_CHARS = 4 << 20  # no model writes that much in one step


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _CachedTokens(msgspec.Struct):
    cached_tokens: int | None = 0


class _WrittenTokens(msgspec.Struct):
    reasoning_tokens: int | None = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None
    completion_tokens_details: _WrittenTokens | None = None


_NULL = msgspec.Raw(b"null")


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw = _NULL


_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class Decoder:
    """Bytes of an event stream in, deltas out. What one ``feed`` holds of adjacent text comes as one delta.

    Raises ProviderGarbage for what cannot be read and for a line over the limit, and the error a server puts
    into its stream as ours.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._lines = DataLines()
        self._calls = PendingCalls(request)
        self._refused = False
        self._reason: FinishReason | None = None
        self._usage: _Usage | None = None
        self._written = 0
        self.done = False

    @property
    def progress(self) -> int:
        """Grows with each word, and with each fragment of a call."""
        return self._written + self._calls.size

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas these bytes complete, in order; none after ``done``."""
        deltas: list[Delta] = []
        text: list[str] = []
        for payload in self._lines.feed(data):
            if not self.done:
                self._line(payload, text, deltas)
        _flush(text, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The stream is over: whole tool calls, usage, finish. Raises ProviderFailed if it was cut."""
        if self._reason is None:
            raise ProviderFailed
        calls = self._calls.whole()
        reason = FinishReason.TOOL_CALLS if calls else self._reason
        if reason is FinishReason.TOOL_CALLS and not calls:
            reason = FinishReason.STOP
        if self._refused:
            reason = FinishReason.CONTENT_FILTER
        return [*calls, self._whole_usage(), Finished(reason)]

    def _line(self, payload: bytes, text: list[str], deltas: list[Delta]) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            chunk = _decode_chunk(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as broken:
            raise ProviderGarbage from broken
        if bytes(chunk.error) != b"null":
            raise refusal(0, b'{"error":' + bytes(chunk.error) + b"}")
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices[:1]:
            self._choice(choice, text, deltas)

    def _choice(self, choice: _Choice, text: list[str], deltas: list[Delta]) -> None:
        delta = choice.delta
        if delta is not None:
            if words := delta.content or delta.refusal:
                text.append(words)
                self._written += len(words)
                self._refused = self._refused or bool(delta.refusal)
            thought = delta.reasoning_content or delta.reasoning
            if thought:
                _flush(text, deltas)
                deltas.append(ReasoningDelta(thought))
                self._written += len(thought)
            for fragment in delta.tool_calls or ():
                self._fragment(fragment)
        if self._written > MAX_ANSWER_CHARS:
            raise ProviderGarbage
        if choice.finish_reason:
            self._reason = _REASONS.get(choice.finish_reason, FinishReason.STOP)

    def _fragment(self, fragment: _Call) -> None:
        function = fragment.function or _Function()
        self._calls.add(fragment.index, id=fragment.id, name=function.name, arguments=function.arguments)

    def _whole_usage(self) -> Usage:
        if self._usage is None:
            written = estimate_text("x" * self._written)
            return Usage(input_tokens=estimate(self._request).tokens, output_tokens=written, estimated=True)
        read, wrote = self._usage.prompt_tokens_details, self._usage.completion_tokens_details
        return Usage(
            input_tokens=self._usage.prompt_tokens,
            output_tokens=self._usage.completion_tokens,
            cached_tokens=(read.cached_tokens or 0) if read else 0,
            reasoning_tokens=(wrote.reasoning_tokens or 0) if wrote else 0,
        )


def _flush(text: list[str], deltas: list[Delta]) -> None:
    if text:
        deltas.append(TextDelta("".join(text)))
        text.clear()
