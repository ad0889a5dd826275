"""What comes of itself while a person is at `mesh chat`: reminders, and the ends of work in the background."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

from prompt_toolkit.application import run_in_terminal
from rich.console import Console
from rich.text import Text

from chassis.clock import Clock
from mesh import answer
from mesh.errors import CallFailed
from mesh.terminal import note

_PAUSE = 3.0  # seconds before a stream that was cut is taken up again


class Follows(Protocol):
    """The door that tells what happens in all of a person's sessions."""

    def notices(self, seen: dict[str, int]) -> AsyncIterator[answer.Event]:
        """What comes of itself, from `seen` on, which it keeps up to date. Ends when cut. Raises CallFailed."""


async def announce(door: Follows, console: Console, clock: Clock) -> None:
    """Print each above the prompt, for as long as nobody cancels this."""
    seen: dict[str, int] = {}
    while True:
        try:
            async with aclosing(door.notices(seen)) as events:  # type: ignore[type-var]
                async for event in events:
                    line = Text(note(event.body), style="bold")
                    await run_in_terminal(lambda line=line: console.print(line))  # type: ignore[misc]
        except CallFailed:  # the next message of the person says what is wrong
            pass
        await clock.sleep(_PAUSE)
