"""A family of refresh tokens under any schedule of two holders, against a model of ten lines."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chassis.database import Unit
from context_svc import refresh
from context_svc.digests import digest
from context_svc.refresh import Outcome, Refreshed, Refused, Replayed
from context_svc.schema.identity import MIGRATION

T = TypeVar("T")
KEY = b"k" * 32
DAY_US = 86_400_000_000


def family(now_us: int) -> sqlite3.Connection:
    """A database with one sign-in, whose first token is "t0"."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.executescript(MIGRATION.script("sqlite"))
    connection.execute("INSERT INTO account VALUES ('a', 'e', 'e', 'n', 'h', 1, 0, 0, 0)")
    connection.execute("INSERT INTO device VALUES ('a', 'd', 'n', 0, 4, '1', NULL, NULL, 1, 0, 0)")
    connection.execute(
        "INSERT INTO sign_in VALUES ('s', 'a', 'd', ?, ?, NULL)", (now_us, now_us + refresh.ABSOLUTE_US)
    )
    run(connection, lambda: refresh.plant("s", digest("t0"), now_us))
    return connection


def run(connection: sqlite3.Connection, unit: Callable[[], Unit[T]]) -> T:
    """A unit of work, straight on a connection."""
    work = unit()
    try:
        statement = next(work)
        while True:
            statement = work.send(connection.execute(statement.sql, statement.arguments).fetchall())
    except StopIteration as end:
        value: T = end.value
        return value


def rotate(connection: sqlite3.Connection, token: str, now_us: int, device: str = "d") -> Outcome:
    child = digest(refresh.derive(KEY, token))
    return run(
        connection,
        lambda: refresh.rotate(parent=digest(token), child=child, device=device, now_us=now_us),
    )


class Schedules(RuleBasedStateMachine):
    """Refreshes, uses of access tokens and time, in any order; `used` is what the model knows of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = DAY_US
        self.connection = family(self.now_us)
        self.tokens = ["t0"]
        self.used = [False]
        self.alive = True

    @rule(back=st.integers(min_value=0, max_value=3))
    def refresh(self, back: int) -> None:
        parent = max(0, len(self.tokens) - 1 - back)
        outcome = rotate(self.connection, self.tokens[parent], self.now_us)
        if not self.alive:
            assert isinstance(outcome, Refused)
            return
        grown = parent + 1 < len(self.tokens)
        if grown and self.used[parent + 1]:
            assert isinstance(outcome, Replayed)
            self.alive = False
            return
        assert isinstance(outcome, Refreshed)
        assert outcome.generation == parent + 1
        self.used[parent] = True
        if not grown:
            self.tokens.append(refresh.derive(KEY, self.tokens[parent]))
            self.used.append(False)

    @rule(back=st.integers(min_value=0, max_value=2))
    def use_access_token(self, back: int) -> None:
        generation = max(0, len(self.tokens) - 1 - back)
        run(self.connection, lambda: refresh.mark_used("s", generation, self.now_us))
        self.used[generation] = True

    @rule(days=st.floats(min_value=0, max_value=2))
    def wait(self, days: float) -> None:
        self.now_us += round(days * DAY_US)

    @invariant()
    def each_generation_has_one_token_and_none_is_stored_in_clear(self) -> None:
        rows = self.connection.execute("SELECT hash, generation FROM refresh_token ORDER BY generation")
        stored = [(row["hash"], row["generation"]) for row in rows]
        assert stored == [(digest(token), number) for number, token in enumerate(self.tokens)]


TestSchedules = pytest.mark.requirement("ID-4")(Schedules.TestCase)
TestSchedules.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)


class ManySchedules(Schedules):
    """The same, a thousand times."""


TestManySchedules = pytest.mark.slow(pytest.mark.requirement("ID-4")(ManySchedules.TestCase))
TestManySchedules.settings = settings(max_examples=1_000, stateful_step_count=10, deadline=None)


@pytest.mark.requirement("ID-4")
def test_a_child_cannot_be_made_without_the_servers_key() -> None:
    assert refresh.derive(KEY, "t0") == refresh.derive(KEY, "t0")
    assert refresh.derive(KEY, "t0") != refresh.derive(b"x" * 32, "t0")
    assert len(refresh.derive(KEY, "t0")) == 43  # 256 bits


def test_the_last_day_of_a_family_is_the_last_day_of_its_tokens() -> None:
    connection, now_us, token = family(0), 0, "t0"
    for _ in range(6):
        now_us += 29 * DAY_US
        outcome = rotate(connection, token, now_us)
        assert isinstance(outcome, Refreshed)
        token = refresh.derive(KEY, token)
    assert outcome == Refreshed(account="a", sign_in="s", generation=6, expire_us=refresh.ABSOLUTE_US)
    assert isinstance(rotate(connection, token, refresh.ABSOLUTE_US), Refused)


def test_tokens_that_expired_are_swept_when_the_family_grows() -> None:
    connection = family(0)
    run(connection, lambda: refresh.mark_used("s", 0, 1))
    rotate(connection, "t0", 20 * DAY_US)
    first = refresh.derive(KEY, "t0")
    rotate(connection, first, 45 * DAY_US)
    rotate(connection, refresh.derive(KEY, first), 70 * DAY_US)
    left = [row["generation"] for row in connection.execute("SELECT generation FROM refresh_token")]
    assert sorted(left) == [1, 2, 3]
