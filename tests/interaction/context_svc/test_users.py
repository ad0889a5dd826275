"""What the owner of the machine may do to accounts: invite, list, reset a password, sign out and block."""

from __future__ import annotations

from datetime import timedelta

import pytest

from assistant.identity.v1 import identity_pb2
from assistant.operator.v1 import operator_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import PASSWORD, Person, Room, device_info, registration
from tests.interaction.context_svc.refusal import refused

ME = identity_pb2.GetCurrentUserRequest()


async def invited(room: Room, **fields: object) -> str:
    request = operator_pb2.CreateInviteRequest(request_id=ids.uuid(), **fields)  # type: ignore[arg-type]
    first = await room.operator.CreateInvite(request)
    assert await room.operator.CreateInvite(request) == first  # a lost answer is asked for again
    return first.invite_code


async def log_in(room: Room, person: Person, password: str = PASSWORD) -> identity_pb2.LoginResponse:
    request = identity_pb2.LoginRequest(email=person.email, password=password, device=device_info(ids.uuid()))
    return await room.identity.Login(request)


@pytest.mark.requirement("ID-1")
async def test_an_invite_makes_one_account_and_expires(room: Room) -> None:
    await room.register()
    code = await invited(room)
    second = await room.identity.Register(registration(email="b@example.org", invite_code=code))
    assert second.account.email == "b@example.org"
    again = registration(email="c@example.org", invite_code=code)
    assert await refused(room.identity.Register(again)) == "INVITE_INVALID"
    late = await invited(room)
    await room.clock.advance(timedelta(days=7, seconds=1))
    request = registration(email="c@example.org", invite_code=late)
    assert await refused(room.identity.Register(request)) == "INVITE_INVALID"


@pytest.mark.requirement("ID-1")
async def test_an_invite_for_an_address_is_good_for_that_address_only(room: Room) -> None:
    await room.register()
    code = await invited(room, email="Ben@example.org")
    other = registration(email="carl@example.org", invite_code=code)
    assert await refused(room.identity.Register(other)) == "INVITE_INVALID"
    assert (await room.identity.Register(registration(email="ben@example.org", invite_code=code))).account.id


async def test_another_persons_device_is_not_found(room: Room) -> None:
    anna = await room.register()
    code = await invited(room)
    ben = await room.identity.Register(registration(email="b@example.org", invite_code=code))
    for_ben = (("authorization", f"Bearer {ben.tokens.access_token}"),)
    request = identity_pb2.RevokeDeviceRequest(device_id=anna.device_id)
    assert await refused(room.identity.RevokeDevice(request, metadata=for_ben)) == "DEVICE_NOT_FOUND"
    mine = await room.identity.ListDevices(identity_pb2.ListDevicesRequest(), metadata=for_ben)
    assert [each.id for each in mine.devices] == [ben.device.id]


async def test_accounts_are_listed_in_figures_the_oldest_first(room: Room) -> None:
    await room.register()
    await room.clock.advance(timedelta(seconds=1))
    code = await invited(room)
    await room.identity.Register(registration(email="b@example.org", invite_code=code))
    first = await room.operator.ListUsers(operator_pb2.ListUsersRequest(page_size=1))
    rest = await room.operator.ListUsers(
        operator_pb2.ListUsersRequest(page_size=1, page_token=first.next_page_token)
    )
    assert [each.email for each in (*first.users, *rest.users)] == ["anna@example.org", "b@example.org"]
    assert first.users[0].device_count == 1
    assert first.users[0].state == operator_pb2.ACCOUNT_STATE_ACTIVE
    assert rest.next_page_token == ""


@pytest.mark.requirement("ID-5")
async def test_a_reset_password_signs_everything_out_and_is_made_by_the_mesh(room: Room) -> None:
    person = await room.register()
    request = operator_pb2.ResetPasswordRequest(request_id=ids.uuid(), account_id=person.answer.account.id)
    made = (await room.operator.ResetPassword(request)).generated_password
    assert (await room.operator.ResetPassword(request)).generated_password == made
    assert await refused(room.identity.GetCurrentUser(ME, metadata=person.metadata)) == "TOKEN_REVOKED"
    assert await refused(log_in(room, person)) == "CREDENTIALS_WRONG"
    assert (await log_in(room, person, made)).account.id
    await room.clock.advance(timedelta(minutes=11))
    assert (await room.operator.ResetPassword(request)).generated_password == ""
    unknown = operator_pb2.ResetPasswordRequest(request_id=ids.uuid(), account_id=ids.uuid())
    assert await refused(room.operator.ResetPassword(unknown)) == "ACCOUNT_NOT_FOUND"


@pytest.mark.requirement("ID-5")
async def test_a_blocked_account_is_out_and_hears_what_a_stranger_hears(room: Room) -> None:
    person = await room.register()
    await room.log_in(person)

    async def revoke(*, block: bool) -> operator_pb2.RevokeUserResponse:
        return await room.operator.RevokeUser(
            operator_pb2.RevokeUserRequest(
                request_id=ids.uuid(), account_id=person.answer.account.id, block=block
            )
        )

    assert (await revoke(block=True)).revoked_devices == 2
    assert await refused(room.identity.GetCurrentUser(ME, metadata=person.metadata)) == "TOKEN_REVOKED"
    assert await refused(log_in(room, person)) == "CREDENTIALS_WRONG"
    listed = await room.operator.ListUsers(operator_pb2.ListUsersRequest())
    assert listed.users[0].state == operator_pb2.ACCOUNT_STATE_BLOCKED
    await revoke(block=False)
    assert (await log_in(room, person)).account.id
