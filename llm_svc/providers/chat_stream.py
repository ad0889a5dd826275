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
    ToolCall,
    Usage,
    calls_in,
)
from llm_svc.providers.chat_refusal import refusal
from llm_svc.tokens import estimate, estimate_text

MAX_LINE_BYTES = 1 << 20
MAX_ARGUMENT_CHARS = 256 * 1024
MAX_CALLS = 128


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


class _PendingCall:
    """A tool call whose fragments are still coming."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.size = 0

    def add(self, fragment: _Call) -> None:
        self.id = self.id or fragment.id or ""
        if fragment.function is None:
            return
        if fragment.function.name and not self.name:
            self.name = fragment.function.name
        if fragment.function.arguments:
            self.arguments.append(fragment.function.arguments)
            self.size += len(fragment.function.arguments)
        if self.size > MAX_ARGUMENT_CHARS:
            raise ProviderGarbage


class Decoder:
    """Bytes of an event stream in, deltas out. What one ``feed`` holds of adjacent text comes as one delta.

    Raises ProviderGarbage for what cannot be read and for a line over the limit, and the error a server puts
    into its stream as ours.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._rest = b""
        self._calls: dict[int, _PendingCall] = {}
        self._reason: FinishReason | None = None
        self._usage: _Usage | None = None
        self._written = 0
        self.done = False

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas these bytes complete, in order; none after ``done``."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise ProviderGarbage
        deltas: list[Delta] = []
        text: list[str] = []
        for line in lines:
            if line.startswith(b"data:") and not self.done:
                self._line(line[5:].strip(), text, deltas)
        _flush(text, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The stream is over: whole tool calls, usage, finish. Raises ProviderFailed if it was cut."""
        if self._reason is None:
            raise ProviderFailed
        calls = self._whole_calls()
        reason = FinishReason.TOOL_CALLS if calls else self._reason
        if reason is FinishReason.TOOL_CALLS and not calls:
            reason = FinishReason.STOP
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
            if delta.content:
                text.append(delta.content)
                self._written += len(delta.content)
            thought = delta.reasoning_content or delta.reasoning
            if thought:
                _flush(text, deltas)
                deltas.append(ReasoningDelta(thought))
            for fragment in delta.tool_calls or ():
                self._fragment(fragment)
        if choice.finish_reason:
            self._reason = _REASONS.get(choice.finish_reason, FinishReason.STOP)

    def _fragment(self, fragment: _Call) -> None:
        pending = self._calls.setdefault(fragment.index, _PendingCall())
        if len(self._calls) > MAX_CALLS:
            raise ProviderGarbage
        pending.add(fragment)

    def _whole_calls(self) -> list[ToolCall]:
        if any(not call.name for call in self._calls.values()):
            raise ProviderGarbage
        first = len(calls_in(self._request.messages)) + 1
        return [
            ToolCall(
                id=call.id or f"call_{first + place}",
                name=call.name,
                arguments="".join(call.arguments) or "{}",
            )
            for place, (_, call) in enumerate(sorted(self._calls.items()))
        ]

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
