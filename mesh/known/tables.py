"""What is known, as tables."""

from rich.table import Table

from mesh.known.lines import MemoryLine
from mesh.printable import printable


def memory_table(lines: list[MemoryLine]) -> Table:
    """Answer memories as a table."""
    table = columns("memory", "from", "changed (UTC)", "id")
    for line in lines:
        table.add_row(printable(line.text), line.source, line.updated, line.id)
    return table


def columns(*headings: str) -> Table:
    """Answer a table with these headings."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "id")
    return table
