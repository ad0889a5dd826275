"""The agent's system text, kept from one start to the next, so that the engine can read it before it is asked.

The contract keeps everything a client, a tool or a page supplied out of a window's system text, so nothing of
a person's is in the file.
"""

from __future__ import annotations

from pathlib import Path

MAX_CHARS = 16_384
FILE = "system.txt"


class StandingText:
    """One text in one file of the state folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._text = self._read()

    @property
    def text(self) -> str:
        """The newest text that was kept; empty at the very first start."""
        return self._text

    def keep(self, text: str) -> None:
        """Remember it for the next start. What is empty, long or known already is not written."""
        if not text or text == self._text or len(text) > MAX_CHARS:
            return
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._file)
        self._text = text

    def _read(self) -> str:
        try:
            return self._file.read_text()
        except (OSError, UnicodeDecodeError):
            return ""
