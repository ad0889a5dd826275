"""Codes that allow a registration: used once, in time, and for what they are."""

from __future__ import annotations

import asyncio

import pytest

from chassis.database import Database
from chassis.testing import FakeClock
from context_svc.schema import MIGRATIONS
from context_svc.setup_code import INVITE, SETUP, SetupCode, add_code, grouped, hash_code, is_good, use_code


@pytest.fixture
async def store(database: Database) -> Database:
    await database.migrate(MIGRATIONS)
    return database


@pytest.mark.requirement("ID-1")
async def test_a_code_is_used_once_by_one_of_many(store: Database) -> None:
    code = hash_code("ABCDE-FGHIJ")
    await store.write("code", lambda: add_code(code, INVITE, 0, 100))
    wins = await asyncio.gather(
        *(store.write("code", lambda each=each: use_code(code, INVITE, f"a{each}", 50)) for each in range(16))  # type: ignore[misc]
    )
    assert sorted(wins) == [False] * 15 + [True]
    assert not await store.read(lambda: is_good(code, INVITE, 50))


@pytest.mark.requirement("ID-1")
async def test_an_expired_or_unknown_code_or_one_of_another_kind_is_no_code(store: Database) -> None:
    code = hash_code("ABCDE-FGHIJ")
    await store.write("code", lambda: add_code(code, INVITE, 0, 100))
    for hash, kind, now_us in ((code, INVITE, 100), (hash_code("X"), INVITE, 50), (code, SETUP, 50)):
        assert not await store.read(lambda h=hash, k=kind, n=now_us: is_good(h, k, n))  # type: ignore[misc]
        assert not await store.write("code", lambda h=hash, k=kind, n=now_us: use_code(h, k, "a", n))  # type: ignore[misc]
    assert await store.write("code", lambda: use_code(code, INVITE, "a", 99))


async def test_the_setup_code_is_kept_as_a_hash_and_needs_the_servers_secret(
    store: Database,
) -> None:
    first, other = (SetupCode(store, FakeClock(), key) for key in (b"k" * 32, b"x" * 32))
    await first.prepare()
    await first.prepare()
    code = await first.show()
    assert code is not None
    assert len(code.replace("-", "")) == 20  # base32: 100 bits
    assert await store.read(lambda: is_good(hash_code(code), SETUP, 1))
    guess = await other.show()
    assert guess is not None
    assert guess != code
    assert not await store.read(lambda: is_good(hash_code(guess), SETUP, 1))


def test_a_code_is_read_as_people_type_it() -> None:
    assert grouped("ABCDEFGHIJ") == "ABCDE-FGHIJ"
    assert hash_code("abcde fghij") == hash_code("ABCDE-FGHIJ") == hash_code("ABCDEFGHIJ")
    assert hash_code("0OI1") == hash_code("OOII")
