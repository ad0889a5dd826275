"""Every list has an index behind it: no list reads a whole table, none sorts what it could read in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chassis import engines
from chassis.call import User
from chassis.database import Database, Row, Statement, Unit
from context_svc import (
    api_tokens,
    claims,
    compaction,
    device_list,
    job_rows,
    messages,
    private_sessions,
    retention,
    session_rows,
    snapshots,
    summary_rows,
    turn_rows,
    users,
)
from context_svc.errors import MessageNotFound
from context_svc.indexes.fts5 import Fts5Index
from context_svc.journal import entries_after
from context_svc.schema import MIGRATIONS
from context_svc.search import Place, Position
from context_svc.snapshots import Cursor

pytestmark = pytest.mark.requirement("CHAT-9")
ME = User(account="a", sign_in="i", scopes=frozenset(), expires_at_us=2**60)


def _asked(after: tuple[int, int] | None, newest_first: bool) -> messages._Asked:
    return messages._Asked(account_id="a", session_id="s", after=after, newest_first=newest_first)


SORTED = "SORT"  # a list that is short by its own limit, or ordered by how well it matches
LISTS: dict[str, tuple[Callable[[], Unit[object]], str]] = {
    "messages, newest first": (lambda: messages._page(_asked(None, True), 50), ""),
    "messages, newest first, on": (lambda: messages._page(_asked((9, 1), True), 50), ""),
    "messages, oldest first": (lambda: messages._page(_asked(None, False), 50), ""),
    "messages, oldest first, on": (lambda: messages._page(_asked((9, 1), False), 50), ""),
    "a branch": (lambda: messages.branch("s", "m"), SORTED),
    "events": (lambda: entries_after("s", "a", 9, 200, 9), ""),
    "events behind a cut": (lambda: snapshots.read_on("a", Cursor(session_id="s"), "e", 200), ""),
    "a snapshot": (lambda: snapshots.read_on("a", Cursor(session_id="s", log_epoch="x"), "e", 200), ""),
    "sessions": (lambda: session_rows.page("a", None, 50, False), ""),
    "sessions, on": (lambda: session_rows.page("a", (9, "s"), 50, False), ""),
    "open sessions": (lambda: session_rows.page("a", (9, "s"), 50, True), ""),
    "jobs": (lambda: job_rows.page("a", None, 50, False), ""),
    "open jobs, on": (lambda: job_rows.page("a", (9, "j"), 50, True), ""),
    "due jobs": (lambda: job_rows.take(("title",), "o", "sqlite", 9), ""),
    "open turns": (lambda: turn_rows.open_turns("s"), ""),
    "turns of the dead": (lambda: claims.orphans("sqlite", 9), ""),
    "sessions that wait": (lambda: claims.waiting_sessions(), SORTED),
    "summaries": (lambda: summary_rows.standing("s", ("m",)), SORTED),
    "people": (lambda: users._page(None, 50, 9), ""),
    "people, on": (lambda: users._page((9, "a"), 50, 9), ""),
    "devices": (lambda: device_list._page(ME, None, 50, 9), SORTED),
    "API tokens": (lambda: api_tokens._page("a", None, 50, 9), SORTED),
    "sessions to compact": (lambda: compaction._some("s"), ""),
    "what compaction removes": (lambda: compaction._reach("s", 9), ""),
    "private sessions": (lambda: private_sessions._over(9), ""),
    "sessions with retention": (lambda: retention._with_settings("s"), ""),
    "findings": (lambda: Fts5Index().find("a", ["x", "y"], Place(), None, 50), SORTED),
    "findings, on": (
        lambda: Fts5Index().find("a", ["x"], Place(session_id="s"), Position(score="-1.0", id=9), 50),
        SORTED,
    ),
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    """An SQLite store with the schema and a session to ask about."""
    async with engines.connect(f"sqlite://{tmp_path}/t.db", schema="") as database:
        await database.migrate(MIGRATIONS)
        await database.write("s", _one_session)
        yield database


async def test_every_list_reads_by_an_index(store: Database) -> None:
    faults = {}
    for name, (unit, exempt) in LISTS.items():
        steps = await _plan(store, unit)
        assert steps, name
        wrong = [step for step in steps if step.startswith("SCAN ") and not _by_index(step)]
        if exempt != SORTED:
            wrong += [step for step in steps if "TEMP B-TREE" in step]
        if wrong:
            faults[name] = wrong
    assert faults == {}


async def test_the_test_sees_a_list_without_an_index(store: Database) -> None:
    def unindexed() -> Unit[None]:
        yield Statement("SELECT id FROM turn WHERE reason = :reason ORDER BY end_us", {"reason": "x"})

    steps = await _plan(store, unindexed)
    assert any(step.startswith("SCAN ") and not _by_index(step) for step in steps)
    assert any("TEMP B-TREE" in step for step in steps)


async def _plan(store: Database, unit: Callable[[], Unit[object]]) -> list[str]:
    steps: list[str] = []

    def explained() -> Unit[None]:
        running = unit()
        try:
            statement = next(running)
            while True:
                plan = yield Statement(f"EXPLAIN QUERY PLAN {statement.sql}", statement.arguments)
                steps.extend(row["detail"] for row in plan)
                rows = yield statement
                statement = running.send(rows)
        except (StopIteration, MessageNotFound):
            return

    await store.write("p", explained)
    return steps


def _by_index(step: str) -> bool:
    """A step over an index, the index of words, or what a step before it made."""
    return any(
        mark in step
        for mark in (
            "USING INDEX",
            "USING COVERING INDEX",
            "USING INTEGER PRIMARY KEY",
            "VIRTUAL TABLE INDEX",
            "CONSTANT ROW",
            "SCAN newest",
            "SCAN branch",
            "SCAN b",
            "SCAN bounds",
            "(subquery",
            "SCAN (",
        )
    )


def _one_session() -> Unit[list[Row]]:
    yield Statement(
        "INSERT INTO account (id, email, email_key, display_name, password_hash, version, create_us, update_us)"
        " VALUES ('a', 'a', 'a', 'a', '', 1, 0, 0)"
    )
    yield Statement(
        "INSERT INTO session (id, account_id, title, title_source, state, settings, version, create_us, update_us,"
        " device_id, shape, last_sequence) VALUES ('s', 'a', '', 0, 1, :settings, 1, 0, 0, 'd', '', 20)",
        {"settings": b""},
    )
    return []
