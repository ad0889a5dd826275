"""A person's own devices, name and password: what they see, change and end from afar."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest

from assistant.chat.v1 import chat_pb2, chat_pb2_grpc
from assistant.context.v1 import context_pb2
from assistant.identity.v1 import identity_pb2
from assistant.message.v1 import message_pb2
from chassis import ids
from chassis.access import Audience, Policy
from chassis.auth import Authenticator, Revocations
from chassis.clock import SystemClock
from chassis.dial import open_channel, streaming
from chassis.errors import ServiceError
from chassis.keys import KeySet
from chassis.tasks import Tasks
from chassis.testing import eventually
from chassis.tokens import USER_TOKEN, Verifier
from chassis.trust import Trust, follow
from context_svc.signing import AUDIENCE, ISSUER
from llm_svc.peers import RevocationFeed
from tests.interaction.context_svc.conftest import PASSWORD, Person, Room, bearer, device_info
from tests.interaction.context_svc.refusal import info, refused

ME = identity_pb2.GetCurrentUserRequest()
PHONE = (("x-forwarded-for", "203.0.113.77"),)
LOCATION = context_pb2.DEVICE_CONTEXT_KIND_LOCATION
BATTERY = context_pb2.DEVICE_CONTEXT_KIND_BATTERY
USERS = Policy(audience=Audience.USER, deadline=None)


async def devices(room: Room, person: Person) -> list[identity_pb2.Device]:
    answer = await room.identity.ListDevices(identity_pb2.ListDevicesRequest(), metadata=person.metadata)
    return list(answer.devices)


def update(device_id: str, **fields: object) -> identity_pb2.UpdateDeviceRequest:
    expected = fields.pop("expected_version", None)
    request = identity_pb2.UpdateDeviceRequest(
        device=identity_pb2.Device(id=device_id, **fields),  # type: ignore[arg-type]
        request_id=ids.uuid(),
        expected_version=expected,  # type: ignore[arg-type]
    )
    request.update_mask.paths.extend(fields)
    return request


def consent(kind: context_pb2.DeviceContextKind.ValueType, granted: bool) -> list[identity_pb2.DeviceConsent]:
    return [identity_pb2.DeviceConsent(kind=kind, granted=granted)]


def new_password(
    fresh: str = "another long sentence", current: str = PASSWORD
) -> identity_pb2.ChangePasswordRequest:
    return identity_pb2.ChangePasswordRequest(
        request_id=ids.uuid(), current_password=current, new_password=fresh
    )


@pytest.mark.requirement("ID-6")
async def test_devices_are_listed_the_last_used_first_and_only_to_their_person(room: Room) -> None:
    phone = await room.register()
    await room.clock.advance(timedelta(minutes=2))
    laptop = await room.log_in(phone)
    await room.clock.advance(timedelta(minutes=2))
    await room.identity.GetCurrentUser(ME, metadata=(*phone.metadata, *PHONE))

    async with asyncio.timeout(20):
        found = await devices(room, laptop)
        while not all(
            each.last_use_time.seconds > each.create_time.seconds for each in found
        ):  # noting a used token follows the call
            found = await devices(room, laptop)
    assert [each.current for each in found] == [each.id == laptop.device_id for each in found]
    assert found == sorted(found, key=lambda each: each.last_use_time.seconds, reverse=True)
    (used,) = [each for each in found if each.id == phone.device_id]
    assert used.last_network == "203.0.113.0/24"
    assert used.last_use_time.seconds > used.create_time.seconds
    assert used.signed_in
    page = identity_pb2.ListDevicesRequest(page_size=1)
    one = await room.identity.ListDevices(page, metadata=laptop.metadata)
    rest = await room.identity.ListDevices(
        identity_pb2.ListDevicesRequest(page_size=1, page_token=one.next_page_token), metadata=laptop.metadata
    )
    assert {each.id for each in (*one.devices, *rest.devices)} == {phone.device_id, laptop.device_id}
    assert rest.next_page_token == ""


@pytest.mark.requirement("ID-6")
async def test_a_name_the_person_gave_stays_at_the_next_login(room: Room) -> None:
    phone = await room.register()
    request = update(phone.device_id, name="Anna's phone")
    for _ in range(2):
        changed = (await room.identity.UpdateDevice(request, metadata=phone.metadata)).device
        assert (changed.name, changed.version) == ("Anna's phone", 2)
    again = await room.log_in(phone, phone.device_id)
    assert again.answer.device.name == "Anna's phone"
    stale = room.identity.UpdateDevice(
        update(phone.device_id, name="x", expected_version=1), metadata=again.metadata
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stale
    assert info(caught.value).reason == "VERSION_MISMATCH"
    assert info(caught.value).metadata["current"] == "2"
    empty = update(phone.device_id, name="")
    assert await refused(room.identity.UpdateDevice(empty, metadata=again.metadata)) == "INVALID_FIELD"
    unknown = update(ids.uuid(), name="x")
    assert await refused(room.identity.UpdateDevice(unknown, metadata=again.metadata)) == "DEVICE_NOT_FOUND"


@pytest.mark.requirement("CTX-6")
async def test_consent_is_given_on_the_device_itself_and_taken_back_from_any(room: Room) -> None:
    phone = await room.register()
    laptop = await room.log_in(phone)
    give = update(phone.device_id, consents=[*consent(LOCATION, True), *consent(BATTERY, True)])
    assert await refused(room.identity.UpdateDevice(give, metadata=laptop.metadata)) == "CALLER_NOT_ALLOWED"
    given = (await room.identity.UpdateDevice(give, metadata=phone.metadata)).device
    assert [(each.kind, each.granted, each.placement) for each in given.consents] == [
        (LOCATION, True, message_pb2.PLACEMENT_LOCAL_ONLY),
        (BATTERY, True, message_pb2.PLACEMENT_ANY),
    ]
    take = update(phone.device_id, consents=consent(LOCATION, False))
    taken = (await room.identity.UpdateDevice(take, metadata=laptop.metadata)).device
    assert [each.granted for each in taken.consents] == [False, True]
    me = await room.identity.GetCurrentUser(ME, metadata=phone.metadata)
    assert me.device.consents == taken.consents


@pytest.mark.requirement("ID-5", "ID-6")
async def test_a_revoked_device_is_out_at_once_and_leaves_the_list(room: Room) -> None:
    phone = await room.register()
    laptop = await room.log_in(phone)
    request = identity_pb2.RevokeDeviceRequest(device_id=phone.device_id)
    await room.identity.RevokeDevice(request, metadata=laptop.metadata)
    assert await refused(room.identity.GetCurrentUser(ME, metadata=phone.metadata)) == "TOKEN_REVOKED"
    assert [each.id for each in await devices(room, laptop)] == [laptop.device_id]
    assert await refused(room.identity.RevokeDevice(request, metadata=laptop.metadata)) == "DEVICE_NOT_FOUND"
    request.allow_missing = True
    await room.identity.RevokeDevice(request, metadata=laptop.metadata)
    assert len(await devices(room, await room.log_in(phone, phone.device_id))) == 2


@pytest.mark.requirement("ID-5")
async def test_a_new_password_needs_the_old_one_and_ends_every_other_sign_in(room: Room) -> None:
    phone = await room.register()
    laptop = await room.log_in(phone)
    for request, expected in (
        (new_password(current="not the password at all"), "CREDENTIALS_WRONG"),
        (new_password("passwordpassword"), "PASSWORD_WEAK"),
    ):
        call = room.identity.ChangePassword(request, metadata=phone.metadata)
        assert await refused(call) == expected
    request = new_password()
    for _ in range(2):  # a lost answer is asked for again
        answer = await room.identity.ChangePassword(request, metadata=phone.metadata)
        assert answer.revoked_devices == 1
    again = new_password("a third long sentence")
    again.request_id = request.request_id
    assert await refused(room.identity.ChangePassword(again, metadata=phone.metadata)) == (
        "IDEMPOTENCY_KEY_REUSED"
    )
    assert await refused(room.identity.GetCurrentUser(ME, metadata=laptop.metadata)) == "TOKEN_REVOKED"
    assert (await room.identity.GetCurrentUser(ME, metadata=phone.metadata)).account.id
    old = identity_pb2.LoginRequest(email=phone.email, password=PASSWORD, device=device_info(ids.uuid()))
    assert await refused(room.identity.Login(old)) == "CREDENTIALS_WRONG"
    old.password = "another long sentence"
    assert (await room.identity.Login(old)).account.id
    assert [each.signed_in for each in await devices(room, phone)].count(True) == 2


@pytest.mark.requirement("ID-2")
async def test_a_stolen_device_may_not_guess_the_password_without_end(room: Room) -> None:
    phone = await room.register()
    wrong = new_password(current="not the password at all")
    for _ in range(10):
        assert await refused(room.identity.ChangePassword(wrong, metadata=phone.metadata)) == (
            "CREDENTIALS_WRONG"
        )
    assert await refused(room.identity.ChangePassword(new_password(), metadata=phone.metadata)) == (
        "LOGIN_THROTTLED"
    )


async def test_a_new_address_needs_the_password_and_must_be_free(room: Room) -> None:
    phone = await room.register()

    def change(**fields: str) -> identity_pb2.UpdateCurrentUserRequest:
        password = fields.pop("password", "")
        request = identity_pb2.UpdateCurrentUserRequest(
            account=identity_pb2.Account(**fields),  # type: ignore[arg-type]
            current_password=password,
            request_id=ids.uuid(),
        )
        request.update_mask.paths.extend(fields)
        return request

    unproved = change(email="new@example.org")
    assert await refused(room.identity.UpdateCurrentUser(unproved, metadata=phone.metadata)) == (
        "CREDENTIALS_WRONG"
    )
    request = change(email="new@example.org", display_name="Anna B.", password=PASSWORD)
    for _ in range(2):
        account = (await room.identity.UpdateCurrentUser(request, metadata=phone.metadata)).account
        assert (account.email, account.display_name, account.version) == ("new@example.org", "Anna B.", 2)
    login = identity_pb2.LoginRequest(
        email="NEW@example.org", password=PASSWORD, device=device_info(ids.uuid())
    )
    assert (await room.identity.Login(login)).account.display_name == "Anna B."


@pytest.mark.requirement("ID-5")
async def test_an_open_stream_of_a_revoked_device_is_cut_within_five_seconds(room: Room) -> None:
    phone = await room.register()
    laptop = await room.log_in(phone)
    chat = chat_pb2_grpc.ChatServiceStub(room.channel)
    request = chat_pb2.SubscribeEventsRequest(all_sessions=True)
    async with streaming(chat.SubscribeEvents(request, metadata=phone.metadata)) as call:
        frames = aiter(call)
        await anext(frames)
        revoke = identity_pb2.RevokeDeviceRequest(device_id=phone.device_id)
        await room.identity.RevokeDevice(revoke, metadata=laptop.metadata)
        async with asyncio.timeout(20):
            last = [frame async for frame in frames][-1]
    assert last.closed.reason == chat_pb2.CLOSE_REASON_REVOKED


@pytest.mark.requirement("ID-5")
async def test_a_room_that_holds_the_feed_refuses_a_revoked_device_within_a_second(room: Room) -> None:
    phone = await room.register()
    laptop = await room.log_in(phone)
    clock, keys = SystemClock(), KeySet()
    revocations = Revocations(clock)
    door = Authenticator(Verifier(keys, ISSUER, AUDIENCE, USER_TOKEN, clock), None, revocations, clock)

    def refusal() -> str:
        try:
            door.caller(phone.metadata, USERS)
        except ServiceError as error:
            return error.reason
        return ""

    async with (
        Tasks() as tasks,
        open_channel(room.address, identity=room.rooms["llm"], callee="context") as channel,
    ):
        trust = Trust(keys, revocations, clock)
        tasks.spawn("feed", follow(RevocationFeed(channel).open, trust, clock, lambda _heard: None))
        await eventually(lambda: refusal() == "")
        revoke = identity_pb2.RevokeDeviceRequest(device_id=phone.device_id)
        await room.identity.RevokeDevice(revoke, metadata=laptop.metadata)
        await eventually(lambda: refusal() == "TOKEN_REVOKED", within=timedelta(seconds=1))
        door.caller(bearer(laptop.answer.tokens.access_token), USERS)
