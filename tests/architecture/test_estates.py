"""Whoever adds a table says whose its rows are: what is a person's is erased, and exported or said why not."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from types import ModuleType

import pytest

from chassis.migrations import Migration
from context_svc import estate as context_estate
from context_svc.schema import MIGRATIONS as CONTEXT
from media_svc import estate as media_estate
from media_svc.schema import MIGRATIONS as MEDIA

OWN_ROW = {context_estate: {"account"}, media_estate: set[str]()}
"""Tables whose one row of a person goes last, by itself."""

BOTH = pytest.mark.parametrize(
    ("estate", "migrations"), [(context_estate, CONTEXT), (media_estate, MEDIA)], ids=["context", "media"]
)


def schema(migrations: Sequence[Migration]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for step in migrations:
        connection.executescript(step.script("sqlite"))
    return connection


@BOTH
@pytest.mark.requirement("ID-7")
@pytest.mark.requirement("ID-8")
def test_every_table_is_erased_or_holds_nothing_of_a_person(
    estate: ModuleType, migrations: Sequence[Migration]
) -> None:
    rows = schema(migrations).execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow'"
    )
    found = {row[0] for row in rows if not row[0].startswith("sqlite_")} | {"schema_migration"}
    named = {holding.table for holding in estate.ESTATE} | set(estate.NOT_PERSONAL) | OWN_ROW[estate]
    assert found == named
    assert all(len(why) > 5 for why in estate.NOT_PERSONAL.values())


@BOTH
@pytest.mark.requirement("ID-8")
def test_what_is_erased_can_be_named_by_its_account(
    estate: ModuleType, migrations: Sequence[Migration]
) -> None:
    connection = schema(migrations)
    for holding in estate.ESTATE:
        connection.execute(f"DELETE FROM {holding.table} WHERE {holding.owned}", {"account": "a"})


@pytest.mark.requirement("ID-7")
def test_what_is_a_persons_is_exported_or_says_why_not() -> None:
    for holding in context_estate.ESTATE:
        assert bool(holding.exported) is not bool(holding.unexported), holding.table
