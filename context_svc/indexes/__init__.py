"""Adapters of `context_svc.search.MessageIndex`, one for each engine."""

from __future__ import annotations

from chassis.database import Engine
from context_svc.indexes.fts5 import Fts5Index
from context_svc.indexes.tsvector import TsvectorIndex
from context_svc.search import MessageIndex


def of_engine(engine: Engine) -> MessageIndex:
    """The index that lives in a store of this engine."""
    return Fts5Index() if engine == "sqlite" else TsvectorIndex()
