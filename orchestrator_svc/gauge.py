"""How many tokens a text has, guessed from its bytes and corrected by what models report."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator_svc.conversation import Content, Described, Message, Reasoning, Text, ToolCall, ToolResult

MESSAGE_TOKENS = 8  # the template's words around one message
SLACK = 1.1  # a guess is made so much larger before it is compared with a limit

_LETTERS = bytes(range(0x61, 0x7B)) + bytes(range(0x41, 0x5B)) + b" "
_HIGH = bytes(range(0x80, 0x100))
_LETTERS_PER_TOKEN = 3.6
_HIGH_BYTES_PER_TOKEN = 2.0  # scripts beyond ASCII; digits, signs and line ends are a token each
_LEAST, _MOST = 0.5, 3.0  # how far one report may correct the guess


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauge:
    """Tokens of text. `scale` is what models reported over what was guessed."""

    scale: float = 1.0

    def text(self, text: str) -> int:
        """Tokens of a text, guessed rather too high. Empty text has none."""
        if not text:
            return 0
        data = text.encode("utf-8", "surrogatepass")
        letters = len(data) - len(data.translate(None, _LETTERS))
        high = len(data) - len(data.translate(None, _HIGH))
        other = len(data) - letters - high
        guess = letters / _LETTERS_PER_TOKEN + high / _HIGH_BYTES_PER_TOKEN + other
        return int(guess * self.scale * SLACK) + 1

    def content(self, content: Content) -> int:
        """Tokens of one part's content."""
        match content:
            case Text() | Reasoning() | Described():
                return self.text(content.text)
            case ToolCall():
                return self.text(content.action) + self.text(content.arguments) + MESSAGE_TOKENS
            case ToolResult():
                return self.text(content.action) + self.text(content.content) + MESSAGE_TOKENS

    def message(self, message: Message) -> int:
        """Tokens of one message, with what a template puts around it."""
        return MESSAGE_TOKENS + sum(self.content(part.content) for part in message.parts)

    def corrected(self, *, guessed: int, reported: int) -> Gauge:
        """The gauge after a model reported `reported` tokens for what was guessed as `guessed`.

        A guess that was too low is corrected in full, one that was too high only half way.
        """
        if guessed <= 0 or reported <= 0:
            return self
        ratio = reported * SLACK / guessed
        step = ratio if ratio > 1 else (1 + ratio) / 2
        return Gauge(scale=min(_MOST, max(_LEAST, self.scale * step)))
