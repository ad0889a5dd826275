"""Model steps that were cut off before anybody could say what they used: counted from what their turn had told.

A step is at its model from the begin of the turn's work, or from the moment at which all actions of the step before it
have ended, until its own receipt is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BYTES_PER_TOKEN = 3.6


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What a step that was cut off had read beyond the turn's first window, and what it had said, in tokens."""

    read: int
    written: int


@dataclass(frozen=True, slots=True)
class _Began:
    call_id: str
    step: int


@dataclass(frozen=True, slots=True)
class _Ended:
    call_id: str
    size: int


@dataclass(kw_only=True, slots=True)
class Trail:
    """What a run told, as far as it says which model step is at its model. Sizes are bytes."""

    _marks: list[int | _Began | _Ended] = field(default_factory=list)

    def said(self, text: str) -> None:
        """The model said this, or thought it aloud."""
        size = len(text.encode())
        if self._marks and isinstance(last := self._marks[-1], int):
            self._marks[-1] = last + size
        else:
            self._marks.append(size)

    def began(self, call_id: str, step: int) -> None:
        """An action began that this model step asked for, counted from 1."""
        self._marks.append(_Began(call_id, step))

    def ended(self, call_id: str, size: int) -> None:
        """An action ended, with so much to read."""
        self._marks.append(_Ended(call_id, size))

    def cut(self, steps: int) -> Cut | None:
        """The step that follows so many that have their receipts; None while it was not at its model yet."""
        read = written = 0
        running: set[str] = set()
        for mark in self._marks:
            match mark:
                case int():
                    written += mark
                case _Began(call_id, step) if step <= steps:
                    running.add(call_id)
                    read, written = read + written, 0
                case _Ended(call_id, size) if call_id in running:
                    running.discard(call_id)
                    read, written = read + written + size, 0
                case _:
                    pass  # an action of the step itself
        return None if running else Cut(read=_tokens(read), written=_tokens(written))


def _tokens(size: int) -> int:
    return int(size / BYTES_PER_TOKEN) + 1 if size else 0
