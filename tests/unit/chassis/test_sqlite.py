from __future__ import annotations

import asyncio
import inspect
import os
import sqlite3
import stat
import sys
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import aiosqlite
import pytest

from chassis import sqlite
from chassis.database import DatabaseInUse, Row, Statement, Unit
from chassis.errors import StoreUnavailable
from tests.contracts.database import NOTES, add, count

WRITER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from chassis import sqlite
    from tests.contracts.database import NOTES, add

    async def main():
        async with sqlite.connect(Path(sys.argv[1])) as database:
            await database.migrate([NOTES])
            async def write(lane):
                for n in range(100_000):
                    id = await database.write(str(lane), lambda: add(f"{sys.argv[2]}-{lane}-{n}"))
                    print(id, flush=True)
            await asyncio.gather(*(write(lane) for lane in range(4)))

    asyncio.run(main())
    """
)


def ask(sql: str) -> Unit[Sequence[Row]]:
    return (yield Statement(sql))


def test_the_extended_connection_still_has_what_it_builds_on() -> None:
    """A pin on aiosqlite's inside: `_execute` runs a function in the thread, `_connection` is sqlite3's."""
    assert list(inspect.signature(aiosqlite.Connection._execute).parameters) == [
        "self",
        "fn",
        "args",
        "kwargs",
    ]
    assert inspect.iscoroutinefunction(aiosqlite.Connection._execute)
    assert "_connection" in aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 1).__dict__


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("locking_mode", "exclusive"),
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("secure_delete", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("journal_size_limit", 67108864),
        ("wal_autocheckpoint", 1000),
        ("busy_timeout", 5000),
    ],
)
async def test_every_commit_is_safe(tmp_path: Path, pragma: str, value: object) -> None:
    async with sqlite.connect(tmp_path / "t.db") as database:
        (row,) = await database.read(lambda: ask(f"PRAGMA {pragma}"))
        assert row[pragma.removeprefix("busy_")] == value


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    async with sqlite.connect(tmp_path / "t.db") as database:
        await database.migrate([NOTES])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in sorted(tmp_path.iterdir())}  # noqa: ASYNC240
    assert modes == {"t.db": 0o600, "t.db-wal": 0o600}


async def test_a_second_process_is_told_that_the_file_is_in_use(tmp_path: Path) -> None:
    async with sqlite.connect(tmp_path / "t.db") as database:
        await database.migrate([NOTES])
        program = (
            "import asyncio, sys; from datetime import timedelta; from pathlib import Path\n"
            "from chassis import sqlite\n"
            "async def main():\n"
            "    async with sqlite.connect(Path(sys.argv[1]), busy=timedelta(0)): pass\n"
            "asyncio.run(main())"
        )
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(tmp_path / "t.db"), stderr=asyncio.subprocess.PIPE
        )
        _, errors = await other.communicate()
    assert b"DatabaseInUse" in errors
    assert b"is open in another process" in errors


async def test_a_second_connection_is_refused_too(tmp_path: Path) -> None:
    async with sqlite.connect(tmp_path / "t.db"):
        with pytest.raises(DatabaseInUse):
            async with sqlite.connect(tmp_path / "t.db", busy=timedelta(0)):
                pytest.fail("two connections hold one file")


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(os.urandom(8192))
    with pytest.raises(StoreUnavailable):
        async with sqlite.connect(tmp_path / "t.db"):
            pytest.fail("noise was opened as a database")


async def test_a_full_disk_fails_the_work_and_not_the_store(tmp_path: Path) -> None:
    async with sqlite.connect(tmp_path / "t.db") as database:
        await database.migrate([NOTES])
        await database.read(lambda: ask("PRAGMA max_page_count = 20"))
        with pytest.raises(StoreUnavailable):
            await database.write("a", lambda: add("a", "x" * 200_000))
        assert await database.write("b", lambda: add("b")) == "b"
        assert await database.read(count) == 1


async def test_deleted_text_is_gone_from_the_file(tmp_path: Path) -> None:
    canary = "canary-7f3a" * 20
    async with sqlite.connect(tmp_path / "t.db") as database:
        await database.migrate([NOTES])
        await database.write("a", lambda: add("a", canary))
        await database.write("a", lambda: ask("DELETE FROM note"))
    assert canary.encode() not in (tmp_path / "t.db").read_bytes()


@pytest.mark.requirement("CHAT-4")
async def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    rounds = 5
    for turn in range(rounds):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(tmp_path / "t.db"), str(turn), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(100 + 37 * turn):
            acknowledged.add((await process.stdout.readline()).decode().strip())
        process.kill()
        rest = (await process.stdout.read()).decode()
        acknowledged.update(line for line in rest.split("\n")[:-1])
        await process.wait()
    async with sqlite.connect(tmp_path / "t.db") as database:
        kept = {row["id"] for row in await database.read(lambda: ask("SELECT id FROM note"))}
    print(f"{rounds} kills, {len(acknowledged)} acknowledged, {len(acknowledged - kept)} lost")  # noqa: T201 - the count is part of the proof
    assert len(acknowledged) > 800
    assert acknowledged <= kept
