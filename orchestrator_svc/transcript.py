"""What was said and done in one turn, in order: the steps for the next window, the parts for the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator_svc.conversation import (
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Trust,
    said,
)

PART_CHARACTERS = 100_000  # the contract's limit of one text part


class Transcript:
    """Grows while the turn runs. `steps` is what an earlier run of the turn left."""

    def __init__(self, steps: Sequence[Message] = ()) -> None:
        self._steps = list(steps)
        self._parts: list[Part] = []
        self._words: list[str] = []

    def hear(self, text: str) -> None:
        """The model said this."""
        self._words.append(text)

    def think(self, text: str, provider_state: bytes) -> None:
        """The model thought this aloud. State of the provider closes the thought."""
        self._flush()
        last = self._parts[-1] if self._parts else None
        if last and isinstance(last.content, Reasoning) and not last.provider_state:
            thought = Reasoning(text=last.content.text + text)
            self._parts[-1] = replace(last, content=thought, provider_state=provider_state)
        else:
            self._parts.append(Part(content=Reasoning(text=text), provider_state=provider_state))

    def ask(self, call: ToolCall) -> None:
        """The model asked for this."""
        self._flush()
        self._parts.append(Part(content=call))

    def answer(self, results: Sequence[ToolResult]) -> None:
        """The step is over; its actions answered this."""
        self.close_step()
        if results:
            parts = tuple(Part(content=result) for result in results)
            self._steps.append(Message(role=Role.TOOL, parts=parts))

    def close_step(self) -> None:
        """The model said all it had to say in this step."""
        self._flush()
        if self._parts:
            self._steps.append(Message(role=Role.ASSISTANT, parts=tuple(self._parts)))
        self._parts = []

    @property
    def steps(self) -> tuple[Message, ...]:
        """The closed steps, as messages of a window."""
        return tuple(self._steps)

    @property
    def step(self) -> tuple[Part, ...]:
        """What was said in the step that runs."""
        self._flush()
        return tuple(self._parts)

    @property
    def step_is_empty(self) -> bool:
        """Whether the step that runs has said nothing yet."""
        return not self._parts and not any(self._words)

    @property
    def text(self) -> str:
        """All that was said to the person."""
        return "".join(part.content.text for part in self.parts() if isinstance(part.content, Text))

    def parts(self) -> tuple[Part, ...]:
        """Everything, in order, as parts of one message."""
        self._flush()
        parts = [part for message in self._steps for part in message.parts] + self._parts
        return tuple(piece for part in parts for piece in _split(part))

    def calls(self) -> Iterator[tuple[ToolCall, ToolResult | None]]:
        """Every call of the closed steps with its result, if it has one."""
        contents = [part.content for message in self._steps for part in message.parts]
        results = {each.call_id: each for each in contents if isinstance(each, ToolResult)}
        return ((each, results.get(each.call_id)) for each in contents if isinstance(each, ToolCall))

    def _flush(self) -> None:
        text, self._words = "".join(self._words), []
        if text:
            self._parts.append(said(text, Trust.UNTRUSTED))


def _split(part: Part) -> Iterator[Part]:
    text = part.content.text if isinstance(part.content, Text) else ""
    if len(text) <= PART_CHARACTERS:
        yield part
        return
    for start in range(0, len(text), PART_CHARACTERS):
        yield replace(part, content=Text(text=text[start : start + PART_CHARACTERS]))
