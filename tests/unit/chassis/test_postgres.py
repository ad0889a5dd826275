from __future__ import annotations

import asyncio

import pytest

from chassis import postgres
from chassis.database import Statement, Unit
from chassis.errors import StoreUnavailable
from chassis.postgres import ATTEMPTS, PostgresDatabase, numbered
from chassis.testing import SOON
from tests.contracts.database import NOTES, add, count, next_number

LOSE_THE_RACE = "DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$"


def shown(setting: str) -> Unit[str]:
    rows = yield Statement("SELECT current_setting(:setting) AS value", {"setting": setting})
    return str(rows[0]["value"])


def test_names_become_numbers_outside_of_literals_and_comments() -> None:
    got = numbered("SELECT :b, :a, :b, ':a', \":a\" -- :c\n /* :d */")
    assert got.sql == "SELECT $1, $2, $1, ':a', \":a\" -- :c\n /* :d */"
    assert got.names == ("b", "a")


def test_a_postgres_cast_is_refused() -> None:
    with pytest.raises(ValueError, match="CAST"):
        numbered("SELECT :a::text")


@pytest.mark.slow
class TestServer:
    async def test_a_lost_race_is_run_again(self, postgres_database: PostgresDatabase) -> None:
        await postgres_database.migrate([NOTES])
        tries = 0

        def racing() -> Unit[int]:
            nonlocal tries
            tries += 1
            number = yield from next_number()
            if tries < ATTEMPTS:
                yield Statement(LOSE_THE_RACE, script=True)
            return number

        other = postgres_database.write("b", lambda: add("b"))
        number, added = await asyncio.gather(postgres_database.write("a", racing), other)
        assert (number, added) == (1, "b")
        assert tries == ATTEMPTS

    async def test_a_race_lost_five_times_is_given_up(self, postgres_database: PostgresDatabase) -> None:
        def losing() -> Unit[None]:
            yield Statement(LOSE_THE_RACE, script=True)

        with pytest.raises(StoreUnavailable):
            await postgres_database.write("a", losing)

    async def test_a_cut_connection_is_a_store_fault_and_heals(
        self, postgres_database: PostgresDatabase
    ) -> None:
        def cut() -> Unit[None]:
            yield Statement("SELECT pg_terminate_backend(pg_backend_pid())")

        await postgres_database.migrate([NOTES])
        with pytest.raises(StoreUnavailable):
            await postgres_database.write("a", cut)
        assert await postgres_database.write("b", lambda: add("b")) == "b"

    async def test_two_processes_that_start_together_migrate_once(self, postgres_url: str) -> None:
        async with (
            postgres.connect(postgres_url, schema="together") as one,
            postgres.connect(postgres_url, schema="together") as other,
        ):
            await asyncio.gather(one.migrate([NOTES]), other.migrate([NOTES]))
            assert await one.write("a", next_number) == 1
            assert await other.write("a", next_number) == 2

    @pytest.mark.requirement("OPS-4")
    async def test_processes_that_start_together_share_a_schema_that_was_not_there(
        self, postgres_url: str
    ) -> None:
        async def start(schema: str) -> int:
            async with postgres.connect(postgres_url, schema=schema, size=1) as opened:
                await opened.migrate([NOTES])
                return await opened.read(count)

        for attempt in range(5):
            assert await asyncio.gather(*(start(f"fresh{attempt}") for _ in range(6))) == [0] * 6

    @pytest.mark.requirement("OPS-4")
    async def test_one_process_at_a_time_is_alone_with_its_schema(self, postgres_url: str) -> None:
        inside: list[str] = []

        async def start(schema: str) -> None:
            async with postgres.connect(postgres_url, schema=schema, size=2) as opened, opened.alone():
                inside.append(schema)
                await opened.migrate([NOTES])
                assert inside.count(schema) == 1
                inside.remove(schema)

        await asyncio.gather(
            *(start(schema) for schema in ("mine", "mine", "yours", "mine", "yours", "mine"))
        )
        assert inside == []

    @pytest.mark.requirement("OPS-4")
    async def test_who_leaves_or_falls_is_not_alone_any_more(self, postgres_url: str) -> None:
        async with (
            postgres.connect(postgres_url, schema="leaving") as one,
            postgres.connect(postgres_url, schema="leaving") as other,
        ):
            with pytest.raises(OSError, match="fell"):
                async with one.alone():
                    raise OSError("fell")
            async with asyncio.timeout(SOON.total_seconds()), other.alone():
                pass
            assert {await each.read(lambda: shown("lock_timeout")) for each in (one, other)} == {"3s"}

    async def test_each_schema_is_its_own_database(self, postgres_url: str) -> None:
        async with (
            postgres.connect(postgres_url, schema="first") as one,
            postgres.connect(postgres_url, schema="second") as other,
        ):
            await one.migrate([NOTES])
            await other.migrate([NOTES])
            await one.write("a", lambda: add("a"))
            assert await other.read(count) == 0

    async def test_a_server_that_is_not_there_is_a_store_fault(self, socket_dir: object) -> None:
        with pytest.raises(StoreUnavailable, match="cannot open"):
            async with postgres.connect(f"postgresql:///x?host={socket_dir}"):
                pytest.fail("connected to nothing")
