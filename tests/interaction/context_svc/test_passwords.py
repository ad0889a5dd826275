"""What becomes of a stored password, and what a login's time tells."""

from __future__ import annotations

import statistics
import time

import grpc
import pytest

from assistant.identity.v1 import identity_pb2
from chassis import engines, ids
from chassis.database import Statement, Unit
from context_svc.settings import ContextSettings
from tests.conftest import Place
from tests.interaction.context_svc.conftest import PASSWORD, Room, Start, device_info


async def stored(database_place: Place, room: Room) -> str:
    """The hash of the one account; the room has ended."""
    url = database_place.url if database_place.url.startswith("postgres") else ""
    where = url or f"sqlite://{room.folder}/data/context.db"
    async with engines.connect(where, schema=database_place.schema or "context") as database:
        return await database.read(_hash)


def _hash() -> Unit[str]:
    rows = yield Statement("SELECT password_hash FROM account")
    return str(rows[0]["password_hash"])


@pytest.mark.requirement("ID-1")
async def test_a_password_is_hashed_anew_at_login_when_the_setting_rose(
    start: Start, database_place: Place
) -> None:
    async with start(hashing_memory_kib=256, hashing_passes=1) as room:
        person = await room.register()
    before = await stored(database_place, room)
    assert before.startswith("$argon2id$v=19$m=256,t=1,p=1$")
    async with start(hashing_memory_kib=512, hashing_passes=2) as room:
        with pytest.raises(grpc.aio.AioRpcError):
            await attempt(room, person.email, "not the right password")
    assert await stored(database_place, room) == before
    async with start(hashing_memory_kib=512, hashing_passes=2) as room:
        await room.log_in(person)
    after = await stored(database_place, room)
    assert after.startswith("$argon2id$v=19$m=512,t=2,p=1$")
    async with start(hashing_memory_kib=512, hashing_passes=2) as room:
        await room.log_in(person)
    assert await stored(database_place, room) == after
    assert PASSWORD not in after


def test_the_default_cost_is_not_below_what_is_recommended() -> None:
    fields = ContextSettings.model_fields
    assert (fields["hashing_memory_kib"].default, fields["hashing_passes"].default) == (19 * 1024, 2)


async def attempt(room: Room, email: str, password: str) -> None:
    await room.identity.Login(
        identity_pb2.LoginRequest(email=email, password=password, device=device_info(ids.uuid()))
    )


async def seconds(room: Room, email: str) -> float:
    began = time.process_time()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await attempt(room, email, "a wrong sentence of words")
    assert caught.value.details() == "E-mail or password is wrong."
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.requirement("ID-2")
async def test_an_unknown_address_takes_as_long_as_a_wrong_password(start: Start) -> None:
    """Medians of logins in turn, in time of this process's own threads: what other programs do does not count."""
    ratios = []
    async with start(login_failures=1_000) as room:
        person = await room.register()
        for _ in range(3):
            pairs = [
                (await seconds(room, person.email), await seconds(room, f"{ids.uuid()}@example.org"))
                for _ in range(11)
            ]
            known, unknown = (statistics.median(each) for each in zip(*pairs, strict=True))
            ratios.append(unknown / known)
            if 0.9 <= ratios[-1] <= 1.1:
                return
    raise AssertionError(f"unknown over known: {ratios}")
