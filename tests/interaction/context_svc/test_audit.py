"""The audit log: what is in it, that it holds no content, and that nobody can change it unseen."""

from __future__ import annotations

import pytest

from chassis.database import ConstraintFailed, Database, Statement, Unit
from chassis.errors import StoreUnavailable
from context_svc import audit
from context_svc.audit import Entry, Event
from context_svc.schema import MIGRATIONS


async def written(database: Database, count: int = 3) -> None:
    await database.migrate(MIGRATIONS)
    for number in range(count):
        entry = Entry(event=Event.LOGIN, at_us=number, account="a", subject=f"s{number}")
        await database.write("audit", lambda entry=entry: audit.append(entry))  # type: ignore[misc]


def run(sql: str) -> Unit[None]:
    yield Statement(sql)


@pytest.mark.requirement("SAFE-2")
async def test_each_entry_is_chained_to_the_one_before(database: Database) -> None:
    await written(database)
    assert await database.read(audit.first_broken) is None


@pytest.mark.requirement("SAFE-2")
@pytest.mark.parametrize("sql", ["UPDATE audit SET subject = 'x' WHERE sequence = 2", "DELETE FROM audit"])
async def test_the_engine_itself_refuses_a_change(database: Database, sql: str) -> None:
    await written(database)
    with pytest.raises((ConstraintFailed, StoreUnavailable)):
        await database.write("audit", lambda: run(sql))
    assert await database.read(audit.first_broken) is None


@pytest.mark.requirement("SAFE-2")
@pytest.mark.parametrize(
    ("sql", "broken"),
    [
        ("UPDATE audit SET subject = 'x' WHERE sequence = 2", 2),
        ("DELETE FROM audit WHERE sequence = 1", 1),
        ("DELETE FROM audit WHERE sequence = 3", 3),
    ],
)
async def test_who_gets_past_the_engine_leaves_a_trace(database: Database, sql: str, broken: int) -> None:
    await written(database)
    on = " ON audit" if database.engine == "postgres" else ""
    await database.write("audit", lambda: run(f"DROP TRIGGER audit_never_changes{on}"))
    if database.engine == "sqlite":
        await database.write("audit", lambda: run("DROP TRIGGER audit_never_shrinks"))
    await database.write("audit", lambda: run(sql))
    assert await database.read(audit.first_broken) == broken
