"""Shows an answer while it grows: Markdown without flicker on a terminal, plain text elsewhere, JSON for
scripts.
"""

import json
import re
from contextlib import suppress
from typing import Protocol, assert_never

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from mesh import answer
from mesh.blocks import settled
from mesh.cures import CURES
from mesh.printable import printable

_LONE_MARKER = re.compile(r"\d+[.)]|[-+*#>]+")
_LONGEST_SHOWN = 200  # characters of a tool's arguments or result


class View(Protocol):
    """Shows the events of a turn, one after the other."""

    def show(self, event: answer.Event) -> None:
        """Show one event."""

    def end(self) -> None:
        """The turn is over, or was left: put the screen in order."""


class Terminal:
    """Markdown on a terminal. Whole blocks are printed for good; only the last, unfinished one is drawn
    again.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._growing = ""
        self._live = Live(console=console, transient=True, refresh_per_second=12, vertical_overflow="crop")

    def show(self, event: answer.Event) -> None:
        """Show one event."""
        match event.body:
            case answer.Said(text=text):
                self._grow(printable(text))
            case answer.Finished() | answer.Failed() | answer.Cancelled():
                self.end()
                self._note(event.body)
            case answer.Accepted() | answer.Began() | answer.Other():
                self._live.start()
            case body:
                self._settle()
                self._note(body)

    def end(self) -> None:
        """Print what is left of the answer."""
        self._settle()
        self._live.stop()

    def _grow(self, text: str) -> None:
        self._live.start()
        self._growing += text
        if cut := settled(self._growing):
            self._console.print(_rendered(self._growing[:cut]))
            self._growing = self._growing[cut:]
        self._live.update(_rendered(self._growing))

    def _settle(self) -> None:
        self._live.update(Text(""))
        if self._growing.strip():
            self._console.print(_rendered(self._growing))
        self._growing = ""

    def _note(self, body: answer.Body) -> None:
        if line := note(body):
            self._console.print(Text(line, style="red" if isinstance(body, answer.Failed) else "dim"))


class Plain:
    """The answer's text to `out`, what was done for it to `log`."""

    def __init__(self, out: Console, log: Console) -> None:
        self._out, self._log = out, log
        self._said = False

    def show(self, event: answer.Event) -> None:
        """Show one event."""
        if isinstance(event.body, answer.Said):
            self._said = True
            self._out.file.write(printable(event.body.text))
            self._out.file.flush()
        elif line := note(event.body):
            self._log.print(line, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """End the last line."""
        if self._said:
            self._out.file.write("\n")
            self._out.file.flush()
        self._said = False


class Documents:
    """Each event as one line of ProtoJSON."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def show(self, event: answer.Event) -> None:
        """Show one event."""
        self._out.file.write(f"{event.document}\n")
        self._out.file.flush()

    def end(self) -> None:
        """Nothing is left open."""


def note(body: answer.Body) -> str:
    """Answer the line that tells what happened beside the answer's text; empty when there is nothing to
    tell.
    """
    match body:
        case answer.ToolBegan(action=action, arguments=arguments):
            return f"… {printable(action)} {_short(arguments)}"
        case answer.ToolEnded(action=action, result=result, failure=""):
            return f"✓ {printable(action)} → {_short(result)}"
        case answer.ToolEnded(action=action, failure=failure):
            return f"✗ {printable(action)}: {_short(failure)}"
        case answer.ApprovalAsked(action=action, arguments=arguments):
            return f"? {printable(action)} wants to run with {printable(arguments)}"
        case answer.Asked(question=question):
            return f"? {printable(question)}"
        case answer.Failed(message=message, reason=reason, retryable=retryable):
            cure = CURES.get(reason) or ("Ask again." if retryable else "")
            return f"The turn failed: {printable(message) or reason} {cure}".rstrip()
        case answer.Cancelled():
            return "Stopped. What was said is kept."
        case answer.Reminded(text=text, late=late):
            return f"⏰ {printable(text)}{' (late)' if late else ''}"
        case answer.JobEnded(message=message):
            return f"• {printable(message)}"
        case answer.Accepted() | answer.Began() | answer.Said() | answer.Finished() | answer.Other():
            return ""
        case _:
            assert_never(body)


def _rendered(text: str) -> Markdown | Text:
    """Answer the Markdown of a block; a lone marker, such as the whole answer “391.”, is text and not an
    empty list.
    """
    return Text(text.strip()) if _LONE_MARKER.fullmatch(text.strip()) else Markdown(text)


def _short(text: str) -> str:
    with suppress(ValueError):
        text = json.dumps(json.loads(text), ensure_ascii=False)
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST_SHOWN else f"{line[: _LONGEST_SHOWN - 1]}…"
