"""What a model has said so far in one step."""

from __future__ import annotations

from llm_svc.events import StepDone
from llm_svc.generation import (
    Message,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Request,
    Role,
    TextDelta,
    TextPart,
    ToolCall,
    Usage,
)
from llm_svc.tokens import estimate, estimate_text


class Said:
    """Grows with the step. ``end`` is set once the step ended well."""

    def __init__(self) -> None:
        self.end: StepDone | None = None
        self._parts: list[Part] = []
        self._words: list[str] = []
        self._thought: list[str] = []

    def hear(self, delta: TextDelta | ReasoningDelta | ToolCall) -> None:
        """It said this. State of the provider closes a thought."""
        match delta:
            case TextDelta(text):
                self._close_thought()
                self._words.append(text)
            case ReasoningDelta(text, state):
                self._close_text()
                self._thought.append(text)
                if state:
                    self._close_thought(state)
            case ToolCall():
                self._close_text()
                self._close_thought()
                self._parts.append(delta)

    def parts(self) -> tuple[Part, ...]:
        """Everything, in order."""
        self._close_text()
        self._close_thought()
        return tuple(self._parts)

    def message(self) -> Message:
        """The same as the assistant's message of a window."""
        return Message(role=Role.ASSISTANT, parts=self.parts())

    def calls(self) -> frozenset[str]:
        """The ids of the calls."""
        return frozenset(part.id for part in self._parts if isinstance(part, ToolCall))

    def usage(self, request: Request) -> Usage:
        """An estimate, for a step that did not get to report its own."""
        texts = (part.text for part in self.parts() if isinstance(part, TextPart | ReasoningPart))
        written = sum(map(estimate_text, texts))
        return Usage(input_tokens=estimate(request).tokens, output_tokens=written, estimated=True)

    def _close_text(self) -> None:
        if text := "".join(self._words):
            self._parts.append(TextPart(text))
        self._words.clear()

    def _close_thought(self, state: bytes = b"") -> None:
        if self._thought or state:
            self._parts.append(ReasoningPart("".join(self._thought), state))
        self._thought.clear()
