"""The books of the room put together: what is kept about turns beside their log.

Money, receipts, the index of words, and the jobs that tidy up what is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.database import Database
from context_svc.compaction import Compaction
from context_svc.ledger import Ledger
from context_svc.paging import PageTokens
from context_svc.private_sessions import PrivateSessions, Turns
from context_svc.receipts import Receipts
from context_svc.search import Indexing, MessageIndex, Search
from context_svc.upkeep import Upkeep


@dataclass(frozen=True, kw_only=True, slots=True)
class Books:
    """What turns, claims, the servicer and the timer need of the books."""

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


def upkeep(books: Books, database: Database, clock: Clock, turns: Turns) -> Upkeep:
    """Compose the job that tidies up. `turns` end with their private sessions."""
    return Upkeep(
        database=database,
        clock=clock,
        chores=(Compaction(database), PrivateSessions(database, turns)),
        sweeps=(books.ledger.sweep,),
        clean=books.index.clean,
    )
