"""Passwords: hashed at the set cost, in a pool that says no when it is full."""

from __future__ import annotations

import asyncio

import pytest

from context_svc.common_passwords import is_common
from context_svc.errors import HashingBusy, PasswordWeak
from context_svc.passwords import Cost, Passwords

CHEAP = Cost(memory_kib=64, passes=1, lanes=1)
GOOD = "a long enough sentence"


@pytest.mark.requirement("ID-1")
async def test_a_hash_is_argon2id_at_the_promised_cost_and_salted() -> None:
    async with Passwords() as passwords:
        one, two = await passwords.hash(GOOD), await passwords.hash(GOOD)
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != two


async def test_nobodys_hash_matches_no_password() -> None:
    async with Passwords(CHEAP) as passwords:
        assert not await passwords.verify("the password of nobody", None)
        assert not await passwords.verify(GOOD, "not a hash")


@pytest.mark.requirement("ID-1")
async def test_a_hash_of_a_lower_cost_is_outdated() -> None:
    async with Passwords(CHEAP) as old, Passwords(Cost(memory_kib=128, passes=1)) as new:
        stored = await old.hash(GOOD)
        assert not old.outdated(stored)
        assert new.outdated(stored)
        assert await new.verify(GOOD, stored)


async def test_a_full_queue_refuses_and_recovers() -> None:
    async with Passwords(CHEAP, threads=1, queue=2) as passwords:
        answers = await asyncio.gather(*(passwords.hash(GOOD) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(each, HashingBusy) for each in answers) == 5
        assert await passwords.hash(GOOD)


@pytest.mark.parametrize("length", [14, 257])
async def test_the_length_is_checked_after_normalisation(length: int) -> None:
    async with Passwords(CHEAP) as passwords:
        with pytest.raises(PasswordWeak):
            await passwords.hash("xy" * (length // 2) + "z" * (length % 2))


@pytest.mark.parametrize(
    "password",
    [
        "PasswordPassword",
        "correct-horse-battery-staple",
        "abcabcabcabcabcabc",
        "98765432109876543",
        "11111111111111111",
    ],
)
def test_what_everybody_tries_is_common(password: str) -> None:
    assert is_common(password)


@pytest.mark.parametrize(
    "password", [GOOD, "grey umbrella under table", "135792468013579", "ein Satz aus Wörtern"]
)
def test_what_nobody_tries_is_not_common(password: str) -> None:
    assert not is_common(password)
