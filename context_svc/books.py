"""The books of the room put together: what is kept about turns beside their log.

Money, receipts and the index of words here; what is done with them later, in the background, is added by `upkeep`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chassis.database import Database
from context_svc.ledger import Ledger
from context_svc.paging import PageTokens
from context_svc.receipts import Receipts
from context_svc.search import Indexing, MessageIndex, Search


@dataclass(frozen=True, kw_only=True, slots=True)
class Books:
    """What turns, claims and the servicer need of the books."""

    ledger: Ledger
    index: MessageIndex
    indexing: Indexing
    receipts: Receipts
    search: Search


def open_books(
    database: Database,
    pages: PageTokens,
    *,
    ledger: Ledger,
    index: MessageIndex,
    text_of: Callable[[bytes], str],
) -> Books:
    """Compose the books of a store. `text_of` reads the text of a stored message."""
    return Books(
        ledger=ledger,
        index=index,
        indexing=Indexing(index, text_of),
        receipts=Receipts(database),
        search=Search(database, pages, index, text_of),
    )
