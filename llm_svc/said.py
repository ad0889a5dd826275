"""What a model has said so far in one step."""

from __future__ import annotations

from dataclasses import replace

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
    """Grows with the step. ``end`` is set once the step ended well.

    ``asked`` says that a provider has the request, ``reported`` is what it told of the use so far.
    """

    def __init__(self) -> None:
        self.end: StepDone | None = None
        self.asked = False
        self.reported: Usage | None = None
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

    def used(self, request: Request) -> Usage:
        """What the step used, also when it was cut off: as far as it was reported, the rest counted here.

        Nothing when no provider was asked.
        """
        if not self.asked:
            return NOTHING
        written = sum(map(_written, self.parts()))
        if self.reported is None:
            return Usage(input_tokens=estimate(request).tokens, output_tokens=written, estimated=True)
        if self.end is not None or written <= self.reported.output_tokens:
            return self.reported
        return replace(self.reported, output_tokens=written, estimated=True)

    def charged(self, request: Request) -> Usage:
        """What a step that failed used: a provider that refused before it said anything charges nothing."""
        return self.used(request) if self.reported or self.parts() else NOTHING

    def _close_text(self) -> None:
        if text := "".join(self._words):
            self._parts.append(TextPart(text))
        self._words.clear()

    def _close_thought(self, state: bytes = b"") -> None:
        if self._thought or state:
            self._parts.append(ReasoningPart("".join(self._thought), state))
        self._thought.clear()


def _written(part: Part) -> int:
    match part:
        case TextPart(text) | ReasoningPart(text):
            return estimate_text(text)
        case ToolCall():
            return estimate_text(part.name + part.arguments)
        case _:
            return 0


NOTHING = Usage(input_tokens=0, output_tokens=0)
