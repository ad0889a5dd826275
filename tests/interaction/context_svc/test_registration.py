"""Registering: who may, who wins, and what a repetition gets."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from assistant.identity.v1 import identity_pb2
from tests import holding
from tests.interaction.context_svc.conftest import PASSWORD, Room, Start, bearer, registration
from tests.interaction.context_svc.refusal import reason, refused


@pytest.mark.requirement("ID-1")
async def test_the_first_person_registers_with_the_setup_code_and_is_signed_in(room: Room) -> None:
    person = await room.register()
    me = await room.identity.GetCurrentUser(identity_pb2.GetCurrentUserRequest(), metadata=person.metadata)
    assert me.account.email == "anna@example.org"
    assert me.device.id == person.device_id
    assert me.device.current
    assert person.answer.device_secret
    assert await room.setup_code() == ""


async def test_the_setup_code_may_be_typed_carelessly(room: Room) -> None:
    code = (await room.setup_code()).lower().replace("-", " ")
    assert (await room.identity.Register(registration(setup_code=code))).account.id


@pytest.mark.requirement("ID-1")
async def test_without_the_setup_code_nobody_becomes_the_first_account(room: Room) -> None:
    for request in (
        registration(),
        registration(setup_code="AAAAA-AAAAA-AAAAA-AAAAA"),
        registration(invite_code=await room.setup_code()),
    ):
        assert await refused(room.identity.Register(request)) == "SETUP_CODE_WRONG"
    assert (await room.setup_code()) != ""


@pytest.mark.requirement("ID-1")
async def test_of_32_concurrent_first_registrations_exactly_one_wins(room: Room) -> None:
    code = await room.setup_code()
    requests = [registration(email=f"p{each}@example.org", setup_code=code) for each in range(32)]
    answers = await asyncio.gather(*map(room.identity.Register, requests), return_exceptions=True)
    winners = [each for each in answers if isinstance(each, identity_pb2.RegisterResponse)]
    losers = [reason(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert len(winners) == 1
    assert losers == ["SETUP_CODE_WRONG"] * 31


@pytest.mark.requirement("ID-1")
async def test_of_32_concurrent_registrations_of_one_address_exactly_one_wins(start: Start) -> None:
    async with start(open_registration=True) as room:
        await room.register()
        spellings = ["Bob@Example.org", "bob@example.org", "BOB@EXAMPLE.ORG", "bOb@example.ORG"] * 8
        answers = await asyncio.gather(
            *(room.identity.Register(registration(email=each)) for each in spellings),
            return_exceptions=True,
        )
    assert sum(isinstance(each, identity_pb2.RegisterResponse) for each in answers) == 1
    losers = [reason(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert losers == ["EMAIL_TAKEN"] * 31


@pytest.mark.requirement("ID-1")
async def test_a_second_account_needs_an_invite(room: Room) -> None:
    code = await room.setup_code()
    await room.register()
    assert await refused(room.identity.Register(registration(email="b@example.org"))) == "INVITE_INVALID"
    again = registration(email="b@example.org", setup_code=code)
    assert await refused(room.identity.Register(again)) == "SETUP_CODE_WRONG"
    invited = registration(email="b@example.org", invite_code="guess")
    assert await refused(room.identity.Register(invited)) == "INVITE_INVALID"


async def test_a_repeated_registration_answers_the_same_account_and_device(room: Room) -> None:
    request = registration(setup_code=await room.setup_code())
    first = await room.identity.Register(request)
    second = await room.identity.Register(request)
    assert second.account == first.account
    assert second.device.id == first.device.id
    me = await room.identity.GetCurrentUser(
        identity_pb2.GetCurrentUserRequest(), metadata=bearer(second.tokens.access_token)
    )
    assert me.account == first.account


async def test_a_request_id_with_another_password_or_address_is_refused(room: Room) -> None:
    request = registration(setup_code=await room.setup_code())
    await room.identity.Register(request)
    for changes in ({"password": "another long sentence"}, {"email": "other@example.org"}):
        again = registration(request_id=request.request_id, **changes)
        assert await refused(room.identity.Register(again)) == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.requirement("ID-1")
@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("passwordpassword", "PASSWORD_WEAK"),
        ("Correct Horse Battery Staple", "PASSWORD_WEAK"),
        ("aaaaaaaaaaaaaaaaaaaa", "PASSWORD_WEAK"),
        ("123456789012345678", "PASSWORD_WEAK"),
        ("e\u0301" * 8, "PASSWORD_WEAK"),  # 16 code points, 8 characters once composed
        ("fourteen chars", "INVALID_FIELD"),
        ("x" * 257, "INVALID_FIELD"),
    ],
)
async def test_a_weak_password_is_refused(room: Room, password: str, expected: str) -> None:
    request = registration(password=password, setup_code=await room.setup_code())
    assert await refused(room.identity.Register(request)) == expected


@pytest.mark.requirement("ID-1")
async def test_a_password_counts_whole_and_in_either_unicode_form(room: Room) -> None:
    composed = "caf\u00e9 au lait, please! " + "x" * 80
    person = await room.register(password=composed)
    for password, works in (
        (composed.replace("\u00e9", "e\u0301"), True),
        (composed[:-1], False),  # no cut at 72 bytes
    ):
        login = identity_pb2.LoginRequest(email=person.email, password=password, device=registration().device)
        if works:
            assert (await room.identity.Login(login)).account.id == person.answer.account.id
        else:
            assert await refused(room.identity.Login(login)) == "CREDENTIALS_WRONG"


@pytest.mark.requirement("ID-1")
async def test_neither_password_nor_tokens_are_in_the_data_folder(start: Start) -> None:
    async with start() as room:
        person = await room.register()
        tokens = person.answer.tokens
        secrets = [PASSWORD, tokens.refresh_token, tokens.access_token, person.answer.device_secret]
        for secret in secrets:
            assert holding.files(room.folder / "data", secret) == []


async def test_the_setup_code_is_the_same_after_a_restart(start: Start) -> None:
    async with start() as room:
        before = await room.setup_code()
    async with start() as room:
        assert await room.setup_code() == before
        assert (await room.register(setup_code=before)).answer.account.id


async def test_a_device_id_that_is_no_uuid_is_named_as_the_wrong_field(room: Room) -> None:
    request = registration(setup_code=await room.setup_code())
    request.device.device_id = "phone"
    assert await refused(room.identity.Register(request)) == "INVALID_FIELD"


@pytest.mark.requirement("LLM-6")
async def test_a_person_sees_what_they_spent_today_and_what_they_may(start: Start) -> None:
    async with start(daily_cost_micro_usd=700) as room:
        person = await room.register()
        me = identity_pb2.GetCurrentUserRequest()
        spending = (await room.identity.GetCurrentUser(me, metadata=person.metadata)).spending
        assert (spending.spent_micro_usd, spending.limit_micro_usd) == (0, 700)
        left = spending.reset_time.ToMicroseconds() - room.clock.now_us()
        assert 0 < left <= 86_400_000_000
    async with start(daily_cost_micro_usd=0) as room:
        person = await room.log_in(person)
        spending = (await room.identity.GetCurrentUser(me, metadata=person.metadata)).spending
        assert not spending.HasField("limit_micro_usd")
