"""Guessing passwords and making accounts in bulk: how soon it ends, and whom it does not hit."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from assistant.identity.v1 import identity_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import PASSWORD, Room, Start, device_info, registration
from tests.interaction.context_svc.refusal import reason, refused

ATTACKER = (("x-forwarded-for", "198.51.100.7"),)
OTHER = (("x-forwarded-for", "203.0.113.9"),)


def login(
    email: str, password: str = "not the password at all", device_id: str = "", secret: str = ""
) -> identity_pb2.LoginRequest:
    return identity_pb2.LoginRequest(
        email=email, password=password, device=device_info(device_id or ids.uuid()), device_secret=secret
    )


async def guess(
    room: Room, email: str, times: int = 10, metadata: tuple[tuple[str, str], ...] = ATTACKER
) -> None:
    for _ in range(times):
        assert await refused(room.identity.Login(login(email), metadata=metadata)) == "CREDENTIALS_WRONG"


def retry_after(error: grpc.aio.AioRpcError) -> duration_pb2.Duration:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    found = error_details_pb2.RetryInfo()
    assert any(each.Unpack(found) for each in status_pb2.Status.FromString(details).details)
    delay: duration_pb2.Duration = found.retry_delay
    return delay


@pytest.mark.requirement("ID-2")
@pytest.mark.parametrize("known", [True, False])
async def test_the_eleventh_guess_is_not_looked_at_whether_or_not_there_is_such_an_account(
    room: Room, known: bool
) -> None:
    person = await room.register()
    email = person.email if known else "nobody@example.org"
    await guess(room, email)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await room.identity.Login(login(email, PASSWORD), metadata=ATTACKER)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(caught.value) == "LOGIN_THROTTLED"
    assert 0 < retry_after(caught.value).seconds <= 900


@pytest.mark.requirement("ID-2")
async def test_the_throttle_survives_a_restart_and_ends_after_15_minutes(start: Start) -> None:
    async with start() as room:
        person = await room.register()
        await guess(room, person.email)
    async with start() as room:
        assert await refused(room.identity.Login(login(person.email, PASSWORD), metadata=ATTACKER)) == (
            "LOGIN_THROTTLED"
        )
        await room.clock.advance(timedelta(minutes=16))
        assert (await room.identity.Login(login(person.email, PASSWORD), metadata=ATTACKER)).account.id


@pytest.mark.requirement("ID-2")
async def test_a_device_known_by_its_secret_and_another_network_still_get_in(room: Room) -> None:
    person = await room.register()
    await guess(room, person.email)
    known = login(person.email, PASSWORD, person.device_id, person.answer.device_secret)
    answer = await room.identity.Login(known, metadata=ATTACKER)
    assert answer.device.id == person.device_id
    assert (await room.identity.Login(login(person.email, PASSWORD), metadata=OTHER)).account.id
    wrong = login(person.email, PASSWORD, person.device_id, "another secret")
    assert await refused(room.identity.Login(wrong, metadata=ATTACKER)) == "LOGIN_THROTTLED"


@pytest.mark.requirement("ID-2")
async def test_who_holds_a_device_secret_may_not_guess_without_end_either(room: Room) -> None:
    person = await room.register()
    known = login(person.email, "wrong", person.device_id, person.answer.device_secret)
    for _ in range(10):
        assert await refused(room.identity.Login(known)) == "CREDENTIALS_WRONG"
    assert await refused(room.identity.Login(known)) == "LOGIN_THROTTLED"


@pytest.mark.requirement("ID-2")
async def test_of_64_guesses_at_once_no_more_than_ten_are_looked_at(room: Room) -> None:
    person = await room.register()
    calls = [room.identity.Login(login(person.email), metadata=ATTACKER) for _ in range(64)]
    reasons = await asyncio.gather(*(refused(call) for call in calls))
    assert reasons.count("CREDENTIALS_WRONG") <= 10
    assert reasons.count("LOGIN_THROTTLED") >= 54


async def test_good_logins_count_for_nothing(room: Room) -> None:
    person = await room.register()
    for _ in range(12):
        assert (await room.identity.Login(login(person.email, PASSWORD), metadata=ATTACKER)).account.id


async def test_only_the_edges_own_entry_of_the_address_counts(room: Room) -> None:
    person = await room.register()
    for each in range(10):
        await guess(room, person.email, 1, (("x-forwarded-for", f"10.0.0.{each}, 198.51.100.7"),))
    last = (("x-forwarded-for", "10.9.9.9, 198.51.100.7"),)
    assert await refused(room.identity.Login(login(person.email), metadata=last)) == "LOGIN_THROTTLED"


@pytest.mark.requirement("ID-1")
async def test_a_network_makes_five_accounts_an_hour(start: Start) -> None:
    async with start(open_registration=True) as room:
        await room.register()

        for number in range(5):
            request = registration(email=f"p{number}@example.org")
            first = await room.identity.Register(request, metadata=ATTACKER)
            assert (await room.identity.Register(request, metadata=ATTACKER)).account == first.account
        sixth = registration(email="p5@example.org")
        assert await refused(room.identity.Register(sixth, metadata=ATTACKER)) == "RATE_LIMITED"
        request = registration(email="elsewhere@example.org")
        assert (await room.identity.Register(request, metadata=OTHER)).account.id
        await room.clock.advance(timedelta(hours=1, seconds=1))
        request = registration(email="later@example.org")
        assert (await room.identity.Register(request, metadata=ATTACKER)).account.id
