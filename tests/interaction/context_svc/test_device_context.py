"""What devices measure: nothing without consent, gone with it, marked as the person decided, kept so long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.context.v1 import context_pb2 as pb
from assistant.identity.v1 import identity_pb2
from assistant.message.v1 import message_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import Person, Room
from tests.interaction.context_svc.refusal import refused
from tests.interaction.context_svc.test_context_items import get, plain, put, write
from tests.interaction.context_svc.test_context_watch import watch

LOCATION = pb.DEVICE_CONTEXT_KIND_LOCATION
BATTERY = pb.DEVICE_CONTEXT_KIND_BATTERY
LOCAL, ANYWHERE = message_pb2.PLACEMENT_LOCAL_ONLY, message_pb2.PLACEMENT_ANY
VIENNA = message_pb2.LocationPart(latitude=48.2082, longitude=16.3738, accuracy_meters=12)


async def decide(
    room: Room,
    person: Person,
    kind: pb.DeviceContextKind.ValueType,
    granted: bool,
    placement: message_pb2.Placement.ValueType = message_pb2.PLACEMENT_UNSPECIFIED,
    *,
    by: Person | None = None,
) -> None:
    consent = identity_pb2.DeviceConsent(kind=kind, granted=granted, placement=placement)
    request = identity_pb2.UpdateDeviceRequest(
        device=identity_pb2.Device(id=person.device_id, consents=[consent]), request_id=ids.uuid()
    )
    request.update_mask.paths.append("consents")
    await room.identity.UpdateDevice(request, metadata=(by or person).metadata)


def at(room: Room, ago: timedelta = timedelta()) -> Timestamp:
    moment = Timestamp()
    moment.FromMicroseconds(room.clock.now_us() - round(ago.total_seconds() * 1e6))
    return moment


def key(person: Person, kind: str) -> str:
    return f"device.{person.device_id}.{kind}"


@pytest.mark.requirement("CTX-4")
async def test_a_kind_without_consent_refuses_the_whole_call_and_stores_nothing(room: Room) -> None:
    phone = await room.register()
    await decide(room, phone, BATTERY, True)
    both = pb.DeviceContext(location=VIENNA, battery=pb.BatteryState(level=0.5))
    assert await refused(put(room, phone, write("a", 1), device=both)) == "CONSENT_MISSING"
    assert not (await get(room, phone)).items
    laptop = await room.log_in(phone)  # consent is one device's
    battery = pb.DeviceContext(battery=pb.BatteryState(level=0.5))
    assert await refused(put(room, laptop, device=battery)) == "CONSENT_MISSING"
    stored = (await put(room, phone, device=battery)).items[0]
    assert (stored.key, stored.source, stored.placement, stored.device_id) == (
        key(phone, "battery"),
        pb.CONTEXT_SOURCE_DEVICE,
        ANYWHERE,
        phone.device_id,
    )


@pytest.mark.requirement("CTX-4")
async def test_every_kind_is_stored_with_its_time_and_an_older_measurement_changes_nothing(
    room: Room,
) -> None:
    phone = await room.register()
    for kind in pb.DeviceContextKind.values()[1:]:
        await decide(room, phone, kind, True)
    measured = at(room, timedelta(minutes=5))
    whole = pb.DeviceContext(
        location=VIENNA,
        locale="de-AT",
        time_zone="Europe/Vienna",
        battery=pb.BatteryState(level=0.5, charging=True),
        network=pb.NetworkState(kind=pb.NETWORK_KIND_CELLULAR, metered=True),
        measure_time=measured,
    )
    await put(room, phone, device=whole)
    stamp = {"measureTime": measured.ToJsonString()}
    assert plain((await get(room, phone)).items) == {
        key(phone, "battery"): {"level": 0.5, "charging": True, **stamp},
        key(phone, "locale"): {"locale": "de-AT", **stamp},
        key(phone, "location"): {"latitude": 48.2082, "longitude": 16.3738, "accuracyMeters": 12, **stamp},
        key(phone, "network"): {"kind": "NETWORK_KIND_CELLULAR", "metered": True, **stamp},
        key(phone, "time_zone"): {"timeZone": "Europe/Vienna", **stamp},
    }
    older = pb.DeviceContext(locale="en-GB", measure_time=at(room, timedelta(hours=1)))
    assert not (await put(room, phone, device=older)).items
    ahead = Timestamp(seconds=at(room).seconds + 7 * 86_400)
    await put(room, phone, device=pb.DeviceContext(locale="fr-FR", measure_time=ahead))
    await put(
        room, phone, device=pb.DeviceContext(locale="it-IT")
    )  # a clock ahead hides nothing that follows
    found = await get(room, phone, keys=[key(phone, "locale")])
    assert plain(found.items)[key(phone, "locale")]["locale"] == "it-IT"  # type: ignore[index]


@pytest.mark.requirement("CTX-4")
async def test_withdrawing_consent_removes_what_was_stored_and_readers_learn_of_it(room: Room) -> None:
    phone = await room.register()
    laptop = await room.log_in(phone)
    for kind in (LOCATION, BATTERY):
        await decide(room, phone, kind, True)
    await put(room, phone, device=pb.DeviceContext(location=VIENNA, battery=pb.BatteryState(level=0.5)))
    async with watch(room, laptop) as open_watch:
        await open_watch.snapshot()
        await decide(room, phone, LOCATION, False, by=laptop)
        assert await open_watch.change() == (2, {}, {key(phone, "location"): False})
        assert list(plain((await get(room, laptop)).items)) == [key(phone, "battery")]
        again = put(room, phone, device=pb.DeviceContext(location=VIENNA))
        assert await refused(again) == "CONSENT_MISSING"
        out = identity_pb2.RevokeDeviceRequest(device_id=phone.device_id)
        await room.identity.RevokeDevice(out, metadata=laptop.metadata)
        assert await open_watch.change() == (3, {}, {key(phone, "battery"): False})


@pytest.mark.requirement("CTX-4")
async def test_where_a_kind_may_be_processed_is_marked_and_follows_a_change_of_mind(room: Room) -> None:
    phone = await room.register()
    await decide(room, phone, LOCATION, True)
    stored = (await put(room, phone, device=pb.DeviceContext(location=VIENNA))).items[0]
    assert stored.placement == LOCAL  # a position stays here unless the person says otherwise
    await decide(room, phone, LOCATION, True, ANYWHERE)
    (item,) = (await get(room, phone)).items
    assert (item.placement, item.version) == (ANYWHERE, 2)
    await decide(room, phone, LOCATION, True, LOCAL)
    (item,) = (await get(room, phone)).items
    assert (item.placement, item.version) == (LOCAL, 3)
    assert plain([item]) == plain([stored])


@pytest.mark.requirement("CTX-4", "CTX-7")
async def test_a_position_is_kept_30_days_and_nothing_else_ends(room: Room) -> None:
    phone = await room.register()
    for kind in (LOCATION, BATTERY):
        await decide(room, phone, kind, True)
    await put(room, phone, device=pb.DeviceContext(location=VIENNA, battery=pb.BatteryState(level=0.5)))
    room.clock.jump(timedelta(days=29))
    phone = await room.log_in(phone, phone.device_id)
    assert len((await get(room, phone)).items) == 2
    room.clock.jump(timedelta(days=1, seconds=1))
    phone = await room.log_in(phone, phone.device_id)
    assert list(plain((await get(room, phone)).items)) == [key(phone, "battery")]
