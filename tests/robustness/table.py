"""The counts of the loops, printed as one table when the session ends."""

from __future__ import annotations

_ROWS: list[tuple[str, str, int]] = []


def tell(loop: str, counted: str, faults: int) -> None:
    """Keep a row for the table."""
    _ROWS.append((loop, counted, faults))


def table() -> list[str]:
    """The rows that were told, aligned."""
    if not _ROWS:
        return []
    wide = max(len(loop) for loop, _, _ in _ROWS)
    return [f"{loop:<{wide}}  {faults:>3} faults  {counted}" for loop, counted, faults in _ROWS]
