"""What a person sees while the mesh gets ready."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mesh.manifest import size

_TOLD_EVERY = 10  # percent, where there is no terminal to draw a bar on


class Bar:
    """The progress of one file: a bar on a terminal, a line for each tenth elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._told = console, total, 0
        self._bar = Progress(
            TextColumn("  "),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        self._console.print(line, markup=False, highlight=False)

    def at(self, count: int) -> None:
        """Move the bar to `count` bytes."""
        if self._console.is_terminal:
            self._bar.start()
            self._bar.update(self._task, completed=count)
        elif (percent := 100 * count // self._total) >= self._told + _TOLD_EVERY:
            self._told = percent - percent % _TOLD_EVERY
            self.say(f"  {self._told} % of {size(self._total)}")

    def end(self) -> None:
        """Take the bar off the screen."""
        self._bar.stop()


@contextmanager
def bar(console: Console, total: int) -> Iterator[Bar]:
    """Show progress inside the block."""
    shown = Bar(console, total)
    try:
        yield shown
    finally:
        shown.end()
