"""Signing keys through the years: made, known, signing, still good, gone."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from chassis.auth import Revocations
from chassis.database import Database, Statement, Unit
from chassis.errors import TokenInvalid
from chassis.tasks import Tasks
from chassis.testing import FakeClock, eventually
from chassis.tokens import USER_TOKEN, Verifier
from context_svc.revocations import Change, Feed, State
from context_svc.rotation import Rotation
from context_svc.schema import MIGRATIONS
from context_svc.signing import AUDIENCE, ISSUER, LEAD, LONGEST, SIGNS, AccessTokens, Purpose, UserKeys

pytestmark = pytest.mark.requirement("ID-3")

DAY = timedelta(days=1)
SOON = timedelta(seconds=1)


class House:
    """A folder of keys and everything that hears of them."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.key_set = folder / "users", folder / "users.jwks"
        self.clock = FakeClock()
        self.keys = UserKeys(self.folder, self.clock)
        self.feed = Feed(self.clock, Revocations(self.clock, patience=None), self.keys.announced)
        self.rotation = Rotation(
            database=database, clock=self.clock, keys=self.keys, feed=self.feed, key_set=self.key_set
        )

    def token(self) -> str:
        return AccessTokens(self.keys, self.clock).issue(account="a", sign_in="s", generation=0).text

    def good(self, token: str) -> bool:
        """Whether a verifier that was there from the beginning believes a token's key."""
        verifier = Verifier(self.keys.trusted, ISSUER, AUDIENCE, USER_TOKEN, self.clock)
        try:
            verifier._check(token)  # its own end does not matter here
        except TokenInvalid:
            return False
        return True

    def published(self) -> set[str]:
        return {key["kid"] for key in json.loads(self.key_set.read_bytes())["keys"]}

    def of(self, purpose: Purpose) -> list[str]:
        return [key.key_id for key in self.keys.announced if key.purpose is purpose]


@pytest.fixture
async def house(tmp_path: Path, database: Database) -> House:
    await database.migrate(MIGRATIONS)
    made = House(tmp_path, database)
    await made.rotation.rotate()
    return made


async def test_a_key_signs_for_ninety_days_and_counts_for_one_day_more(house: House) -> None:
    first = house.keys.signer.key_id
    house.clock.jump(SIGNS - SOON)
    await house.rotation.rotate()
    assert house.of(Purpose.ACCESS_TOKEN) == [first]
    house.clock.jump(SOON)
    await house.rotation.rotate()
    known, second = house.of(Purpose.ACCESS_TOKEN)
    assert (known, house.keys.signer.key_id) == (first, first)
    assert second in house.published()
    house.clock.jump(LEAD)
    assert house.keys.signer.key_id == second
    house.clock.jump(DAY - LEAD - SOON)
    await house.rotation.rotate()
    assert house.of(Purpose.ACCESS_TOKEN) == [first, second]
    house.clock.jump(SOON)
    await house.rotation.rotate()
    assert house.of(Purpose.ACCESS_TOKEN) == [second]
    assert first not in house.published()
    assert not list(house.folder.glob(f"{first}.key"))


async def test_what_an_old_key_signed_is_good_until_the_key_is_retired_and_never_again(house: House) -> None:
    token = house.token()
    house.clock.jump(SIGNS)
    await house.rotation.rotate()
    house.clock.jump(LEAD)
    newer = house.token()
    assert house.good(token)
    assert house.good(newer)
    house.clock.jump(DAY)
    await house.rotation.rotate()
    assert not house.good(token)
    assert house.good(newer)


async def test_a_key_of_api_tokens_counts_as_long_as_a_token_of_its_last_day_lives(house: House) -> None:
    (first,) = house.of(Purpose.API_TOKEN)
    house.clock.jump(SIGNS)
    await house.rotation.rotate()
    house.clock.jump(LONGEST - SOON)
    await house.rotation.rotate()
    assert house.keys.api_signer_of(first) is not None
    assert house.keys.api_signer.key_id != first
    house.clock.jump(SOON)
    await house.rotation.rotate()
    assert house.keys.api_signer_of(first) is None


async def test_grants_have_keys_of_their_own_that_are_published_nowhere(house: House) -> None:
    (first,) = house.of(Purpose.GRANT)
    house.clock.jump(SIGNS)
    await house.rotation.rotate()
    assert house.published().isdisjoint(house.of(Purpose.GRANT))
    house.clock.jump(DAY)
    await house.rotation.rotate()
    assert first not in house.of(Purpose.GRANT)


async def test_the_rooms_are_told_of_the_new_key_the_old_ones_end_and_its_retirement(house: House) -> None:
    frames = house.feed.watch(room="llm", instance="i", version="1")
    state = await anext(frames)
    assert isinstance(state, State)
    assert {key.key_id for key in state.keys} == {key.key_id for key in house.keys.announced}
    assert all(key.end_us is None for key in state.keys)
    (first,) = house.of(Purpose.ACCESS_TOKEN)
    house.clock.jump(SIGNS)
    await house.rotation.rotate()
    told = await anext(frames)
    assert isinstance(told, Change)
    ends = {key.key_id: key.end_us for key in told.keys if key.purpose is Purpose.ACCESS_TOKEN}
    _, second = house.of(Purpose.ACCESS_TOKEN)
    assert set(ends) == {first, second}
    assert ends[second] is None
    assert abs((ends[first] or 0) - house.clock.now_us() - DAY // timedelta(microseconds=1)) < 1_000
    house.clock.jump(DAY)
    await house.rotation.rotate()
    gone = await anext(frames)
    assert isinstance(gone, Change)
    assert first in gone.retired_keys
    await frames.aclose()  # type: ignore[attr-defined]


async def test_nothing_is_told_or_verified_anew_when_nothing_is_due(house: House) -> None:
    version, before = house.keys.trusted.version, house.key_set.stat().st_mtime_ns
    renewal = await house.rotation.rotate()
    assert (renewal.changed, renewal.retired) == ((), ())
    assert house.keys.trusted.version == version
    assert house.key_set.stat().st_mtime_ns == before


async def test_an_operator_can_replace_every_key_at_once(house: House) -> None:
    token, before = house.token(), {key.key_id for key in house.keys.announced}
    renewal = await house.rotation.rotate(now=True)
    assert set(renewal.retired) == before
    assert not house.good(token)
    assert house.good(house.token())
    assert {path.stem for path in house.folder.rglob("*.key")} == {key.key_id for key in renewal.changed}


async def test_a_key_that_another_process_made_is_taken_up(house: House) -> None:
    house.clock.jump(SIGNS)
    UserKeys.load_or_create(house.folder, house.clock)
    renewal = await house.rotation.rotate()
    assert len(house.of(Purpose.ACCESS_TOKEN)) == 2
    assert {key.purpose for key in renewal.changed} == set(Purpose)


async def test_a_restart_changes_nothing(house: House, tmp_path: Path, database: Database) -> None:
    again = House(tmp_path, database)
    assert again.keys.announced == house.keys.announced
    assert (await again.rotation.rotate()).changed == ()


async def test_rotation_is_in_the_audit_log(house: House, database: Database) -> None:
    async def events() -> list[str]:
        return await database.read(_events)

    assert await events() == ["key_created"] * 3
    house.clock.jump(SIGNS)
    await house.rotation.rotate()
    house.clock.jump(DAY)
    await house.rotation.rotate()
    assert await events() == [*["key_created"] * 6, *["key_retired"] * 2]


def _events() -> Unit[list[str]]:
    rows = yield Statement("SELECT event FROM audit ORDER BY sequence")
    return [row["event"] for row in rows]


async def test_it_goes_by_itself_at_the_due_moment(house: House) -> None:
    (first,) = house.of(Purpose.ACCESS_TOKEN)
    async with Tasks() as tasks:
        tasks.spawn("rotate", house.rotation.run())
        await house.clock.asleep()
        await house.clock.advance(SIGNS - SOON)
        assert house.of(Purpose.ACCESS_TOKEN) == [first]
        await house.clock.advance(timedelta(seconds=60))
        await eventually(lambda: len(house.published()) == 4)
        await house.clock.asleep()
        await house.clock.advance(DAY + timedelta(seconds=60))
        await eventually(lambda: first not in house.published())
