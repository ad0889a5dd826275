"""The summary table: what stands for earlier messages of a branch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chassis import ids
from chassis.database import Row, Statement, Unit
from context_svc.messages import Branch

_LOOKED_AT = 32  # newest summaries of a session; older ones belong to branches that were left long ago


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Stands for the first `messages` messages of every branch that goes through `through_message_id`."""

    id: str
    text: str
    messages: int
    through_message_id: str
    through_depth: int
    local_only: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class NewSummary:
    """A summary that was just made: of `sources`, its messages, and of what `base` stands for."""

    session_id: str
    base: Summary | None
    sources: tuple[str, ...]
    through_depth: int
    local_only: bool
    text: str


def standing(session_id: str, branch: Sequence[str]) -> Unit[Summary | None]:
    """The summary that reaches furthest into a branch, of which these are the ids of its last messages."""
    rows = yield Statement(
        "SELECT * FROM summary WHERE session_id = :session ORDER BY through_depth DESC, create_us DESC"
        " LIMIT :limit",
        {"session": session_id, "limit": _LOOKED_AT},
    )
    through = set(branch)
    return next((_row(row) for row in rows if row["through_message_id"] in through), None)


def covered(summary: Summary | None, read: Branch) -> int:
    """How many of these messages a summary stands for."""
    return read.ids.index(summary.through_message_id) + 1 if summary else 0


def joined(session_id: str, read: Branch) -> Unit[tuple[Branch, Summary | None]]:
    """Part of the unit that gathers a turn's material: what stands for the beginning of its branch, if anything.

    Of the messages before those that are read, the summary may stand for some.
    """
    summary = yield from standing(session_id, read.all_ids)
    if summary is None:
        return read, None
    before = summary.messages - (covered(summary, read) if summary.through_message_id in read.ids else 0)
    return replace(read, earlier=max(0, read.earlier - before)), summary


def insert(new: NewSummary, now_us: int) -> Unit[bool]:
    """Part of a unit that holds the session: keep a summary; False when one of its messages is gone."""
    sources = set(new.sources)
    found = yield Statement(
        "SELECT id FROM message WHERE session_id = :session AND id IN (:first, :through)",
        {"session": new.session_id, "first": new.sources[0], "through": new.sources[-1]},
    )
    if {row["id"] for row in found} != {new.sources[0], new.sources[-1]} & sources:
        return False
    if new.base is not None:
        base = yield Statement("SELECT 1 AS one FROM summary WHERE id = :id", {"id": new.base.id})
        if not base:
            return False
    yield Statement(
        "INSERT INTO summary (id, session_id, base_id, first_message_id, through_message_id, through_depth,"
        " messages, sources, local_only, text, create_us) VALUES (:id, :session, :base, :first, :through,"
        " :depth, :messages, :sources, :local_only, :text, :now)",
        {
            "id": ids.uuid(),
            "session": new.session_id,
            "base": new.base.id if new.base else None,
            "first": new.sources[0],
            "through": new.sources[-1],
            "depth": new.through_depth,
            "messages": len(new.sources) + (new.base.messages if new.base else 0),
            "sources": json.dumps(new.sources),
            "local_only": int(new.local_only),
            "text": new.text,
            "now": now_us,
        },
    )
    return True


def _row(row: Row) -> Summary:
    return Summary(
        id=row["id"],
        text=row["text"],
        messages=row["messages"],
        through_message_id=row["through_message_id"],
        through_depth=row["through_depth"],
        local_only=bool(row["local_only"]),
    )
