"""Which engine a URL means. The only module that knows both."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from chassis import postgres, sqlite
from chassis.clock import Clock
from chassis.database import Database


def connect(url: str, *, schema: str, clock: Clock | None = None) -> AbstractAsyncContextManager[Database]:
    """Open ``sqlite:///path/to/file`` or ``postgresql://…`` (there in its own `schema`).

    Raises ValueError for another kind of URL; when entered, DatabaseInUse and StoreUnavailable.
    """
    kind, separator, rest = url.partition("://")
    if separator and kind == "sqlite":
        return sqlite.connect(Path(rest), clock=clock)
    if separator and kind in ("postgres", "postgresql"):
        return postgres.connect(url, schema=schema, clock=clock)
    raise ValueError("a database URL begins with sqlite:// or postgresql://")
