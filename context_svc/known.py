"""What is known when a turn begins: the person's preferences, and what context items tell the agent."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.database import Statement, Unit
from context_svc import item_rows, preference_rows
from context_svc.items import Item
from context_svc.preference_rows import Stored

MOST_ITEMS = 300
MOST_ITEM_BYTES = 16 * 1024  # a larger item is for programs: no window would hold it


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Of a person and a session: preferences, and items, the newest first."""

    stored: Stored = field(default_factory=Stored)
    items: tuple[Item, ...] = ()


def known(account_id: str, session_id: str, now_us: int) -> Unit[Known]:
    """Part of a unit: what a turn of this session is told. Nothing that has expired."""
    rows = yield Statement(
        "SELECT * FROM context_item WHERE scope_id IN (:account, :session) AND state = 0 AND size <= :largest"
        " AND (expire_us IS NULL OR expire_us > :now) ORDER BY update_us DESC, key LIMIT :most",
        {
            "account": account_id,
            "session": session_id,
            "largest": MOST_ITEM_BYTES,
            "now": now_us,
            "most": MOST_ITEMS,
        },
    )
    items = (item_rows.item(row, session_id if row["scope_id"] == session_id else "") for row in rows)
    return Known(stored=(yield from preference_rows.find(account_id)), items=tuple(items))
