"""What every engine promises behind `chassis.database.Database`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Sequence
from functools import partial

import pytest

from chassis import engines
from chassis.database import ConstraintFailed, Database, Row, Statement, Unit
from chassis.errors import StoreUnavailable
from chassis.migrations import Migration, MigrationRefused
from tests.conftest import Place

NOTES = Migration(
    version=1,
    name="notes",
    sql={
        "sqlite": "CREATE TABLE note (id TEXT PRIMARY KEY, text TEXT NOT NULL, data BLOB, at_us BIGINT);"
        "CREATE TABLE counter (id BIGINT PRIMARY KEY, value BIGINT NOT NULL);"
        "INSERT INTO counter VALUES (1, 0);",
        "postgres": "CREATE TABLE note (id TEXT PRIMARY KEY, text TEXT NOT NULL, data BYTEA, at_us BIGINT);"
        "CREATE TABLE counter (id BIGINT PRIMARY KEY, value BIGINT NOT NULL);"
        "INSERT INTO counter VALUES (1, 0);",
    },
)


class Refused(Exception):
    """A unit's own refusal."""


def add(id: str, text: str = "") -> Unit[str]:
    yield Statement("INSERT INTO note (id, text) VALUES (:id, :text)", {"id": id, "text": text})
    return id


def add_then_refuse(id: str) -> Unit[str]:
    yield from add(id)
    raise Refused(id)


def add_pair(id: str) -> Unit[None]:
    yield from add(f"{id}-left")
    yield from add(f"{id}-right")


def next_number() -> Unit[int]:
    rows = yield Statement("UPDATE counter SET value = value + 1 WHERE id = 1 RETURNING value")
    number: int = rows[0]["value"]
    return number


def count() -> Unit[int]:
    rows = yield Statement("SELECT COUNT(*) AS notes FROM note")
    notes: int = rows[0]["notes"]
    return notes


def find(id: str) -> Unit[Sequence[Row]]:
    return (yield Statement("SELECT id, text, data, at_us FROM note WHERE id = :id", {"id": id}))


async def outcomes(works: Sequence[Awaitable[object]]) -> list[object]:
    return await asyncio.gather(*works, return_exceptions=True)


class DatabaseContract:
    """Run on both engines by `test_database.py`."""

    async def test_what_was_written_can_be_read(self, notes: Database) -> None:
        assert await notes.write("a", lambda: add("a", "hello")) == "a"
        assert [row["text"] for row in await notes.read(lambda: find("a"))] == ["hello"]

    async def test_values_come_back_as_they_went(self, notes: Database) -> None:
        at_us, data, text = 2**53 + 1, bytes(range(256)), "naïve ✓ ':x' \x01"

        def store() -> Unit[None]:
            yield Statement(
                "INSERT INTO note (id, text, data, at_us) VALUES (:id, :text, :data, :at_us)",
                {"id": "v", "text": text, "data": data, "at_us": at_us},
            )

        await notes.write("v", store)
        (row,) = await notes.read(lambda: find("v"))
        assert (row["text"], row["data"], row["at_us"]) == (text, data, at_us)

    async def test_a_name_may_be_used_twice_and_a_literal_may_look_like_one(self, notes: Database) -> None:
        def ask() -> Unit[Sequence[Row]]:
            return (
                yield Statement(
                    "SELECT ':no' AS literal, CAST(:n AS BIGINT) + CAST(:n AS BIGINT) AS twice -- :nor this",
                    {"n": 21},
                )
            )

        (row,) = await notes.read(ask)
        assert (row["literal"], row["twice"]) == (":no", 42)

    async def test_one_failing_unit_of_64_fails_alone(self, notes: Database) -> None:
        def unit(n: int) -> Unit[str]:
            return add_then_refuse("n13") if n == 13 else add(f"n{n}")

        results = await outcomes([notes.write(f"s{n % 8}", partial(unit, n)) for n in range(64)])
        assert [n for n, result in enumerate(results) if isinstance(result, Refused)] == [13]
        assert await notes.read(count) == 63
        assert await notes.read(lambda: find("n13")) == []
        assert notes.metrics().batches < 10, "64 units that wait together share their commits"

    async def test_callbacks_run_in_commit_order_before_any_waiter_of_the_batch(
        self, notes: Database
    ) -> None:
        seen: list[tuple[str, int]] = []
        before = notes.metrics().batches

        async def number(aggregate: str) -> None:
            got = await notes.write(
                aggregate, next_number, committed=lambda value: seen.append(("told", value))
            )
            seen.append(("resumed", got))

        await asyncio.gather(*(number(f"s{n % 5}") for n in range(64)))
        told = [value for kind, value in seen if kind == "told"]
        assert told == sorted(told)
        assert len(told) == 64
        for place, (kind, value) in enumerate(seen):
            if kind == "resumed":
                assert ("told", value) in seen[:place]
        kinds = "".join(kind[0] for kind, _ in seen)
        assert len(re.findall("t+", kinds)) <= notes.metrics().batches - before, (
            "no waiter ran inside a batch"
        )

    async def test_work_on_one_aggregate_keeps_its_order(self, notes: Database) -> None:
        numbers = await asyncio.gather(*(notes.write("one", next_number) for _ in range(100)))
        assert numbers == sorted(numbers)

    async def test_a_failed_unit_calls_nobody_back(self, notes: Database) -> None:
        told: list[str] = []
        with pytest.raises(Refused):
            await notes.write("a", lambda: add_then_refuse("a"), committed=told.append)
        assert told == []

    async def test_a_callback_that_raises_hides_no_durable_work(self, notes: Database) -> None:
        def raising(_: str) -> None:
            raise RuntimeError("a reader's fault")

        assert await notes.write("a", lambda: add("a"), committed=raising) == "a"
        assert await notes.write("b", lambda: add("b")) == "b"

    async def test_a_reader_never_sees_uncommitted_work(self, notes: Database) -> None:
        async def read_often() -> list[int]:
            return [await notes.read(count) for _ in range(50)]

        writers = [notes.write(f"p{n}", partial(add_pair, str(n))) for n in range(50)]
        readings = asyncio.gather(*(read_often() for _ in range(4)))
        await asyncio.gather(*writers)
        assert [total for each in await readings for total in each if total % 2] == []

    async def test_a_read_cannot_write(self, notes: Database) -> None:
        with pytest.raises(Exception, match=r"(?i)read-?only"):
            await notes.read(lambda: add("a"))
        assert await notes.read(count) == 0
        assert await notes.write("a", lambda: add("a")) == "a"

    async def test_a_broken_constraint_is_told_apart(self, notes: Database) -> None:
        await notes.write("a", lambda: add("a"))
        with pytest.raises(ConstraintFailed):
            await notes.write("a", lambda: add("a"))

    async def test_work_nobody_waits_for_any_more_is_not_begun(self, notes: Database) -> None:
        work = asyncio.ensure_future(notes.write("a", lambda: add("a")))
        other = asyncio.ensure_future(notes.write("b", lambda: add("b")))
        work.cancel()
        await other
        assert await notes.read(count) == 1

    async def test_a_full_queue_refuses_and_loses_nothing_it_took(self, notes: Database) -> None:
        results = await outcomes([notes.write(f"s{n}", partial(add, f"n{n}")) for n in range(600)])
        refused = [result for result in results if isinstance(result, StoreUnavailable)]
        assert len(refused) == 600 - 512
        assert await notes.read(count) == 512

    async def test_what_was_queued_is_kept_when_the_store_is_closed(self, database_place: Place) -> None:
        async with engines.connect(database_place.url, schema=database_place.schema) as opened:
            await opened.migrate([NOTES])
            work = [asyncio.ensure_future(opened.write(f"s{n}", partial(add, f"n{n}"))) for n in range(20)]
            await asyncio.sleep(0)
        assert await outcomes(work) == [f"n{n}" for n in range(20)]
        async with engines.connect(database_place.url, schema=database_place.schema) as opened:
            assert await opened.read(count) == 20

    async def test_a_closed_store_says_so(self, database_place: Place) -> None:
        async with engines.connect(database_place.url, schema=database_place.schema) as opened:
            await opened.ready()
        with pytest.raises(StoreUnavailable):
            await opened.write("a", lambda: add("a"))
        with pytest.raises(StoreUnavailable):
            await opened.ready()
        with pytest.raises(StoreUnavailable):
            await opened.read(count)

    @pytest.mark.requirement("OPS-5")
    async def test_a_migration_is_applied_once(self, notes: Database) -> None:
        await notes.write("a", lambda: add("a"))
        later = Migration(version=2, name="more", sql={"all": "ALTER TABLE note ADD COLUMN more TEXT"})
        await notes.migrate([NOTES, later])
        await notes.migrate([NOTES, later])
        assert await notes.read(count) == 1

    @pytest.mark.requirement("OPS-5")
    async def test_a_migration_that_fails_leaves_nothing(self, notes: Database) -> None:
        broken = Migration(
            version=2, name="broken", sql={"all": "CREATE TABLE half (id BIGINT); SELECT nothing;"}
        )
        with pytest.raises(Exception, match="nothing"):
            await notes.migrate([NOTES, broken])
        mended = Migration(version=2, name="whole", sql={"all": "CREATE TABLE half (id BIGINT);"})
        await notes.migrate([NOTES, mended])

    async def test_an_edited_migration_is_refused(self, notes: Database) -> None:
        edited = Migration(version=1, name="notes", sql={"all": "CREATE TABLE other (id BIGINT)"})
        with pytest.raises(MigrationRefused, match="changed"):
            await notes.migrate([edited])

    async def test_a_newer_schema_is_refused(self, notes: Database) -> None:
        await notes.migrate(
            [NOTES, Migration(version=2, name="more", sql={"all": "CREATE TABLE more (id BIGINT)"})]
        )
        with pytest.raises(MigrationRefused, match="does not know"):
            await notes.migrate([NOTES])
