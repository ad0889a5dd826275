"""Preferences: five layers, each field decided on its own, and what follows from them."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from assistant.context.v1 import context_pb2 as pb
from assistant.context.v1.context_pb2_grpc import ContextServiceStub
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import Person, Room, Start
from tests.interaction.context_svc.refusal import info, refused
from tests.interaction.context_svc.test_context_items import get, plain, put
from tests.interaction.context_svc.test_context_watch import watch
from tests.interaction.context_svc.test_device_context import LOCATION, VIENNA, decide

USER, SESSION, SERVER = (
    pb.PREFERENCE_LAYER_KIND_USER,
    pb.PREFERENCE_LAYER_KIND_SESSION,
    pb.PREFERENCE_LAYER_KIND_SERVER,
)
DAY = timedelta(days=1)


async def prefer(room: Room, person: Person, *paths: str, **fields: object) -> pb.UpdatePreferencesResponse:
    """Set what `fields` hold; `paths` is the mask."""
    extra = {name: fields.pop(name) for name in ("request_id", "expected_version") if name in fields}
    request = pb.UpdatePreferencesRequest(
        preferences=pb.Preferences(**fields),  # type: ignore[arg-type]
        **{"request_id": ids.uuid(), **extra},  # type: ignore[arg-type]
    )
    request.update_mask.paths.extend(paths)
    return await ContextServiceStub(room.channel).UpdatePreferences(request, metadata=person.metadata)


async def preferred(room: Room, person: Person, session_id: str = "") -> pb.GetPreferencesResponse:
    request = pb.GetPreferencesRequest(session_id=session_id)
    return await ContextServiceStub(room.channel).GetPreferences(request, metadata=person.metadata)


async def session(room: Room, person: Person, **settings: object) -> session_pb2.Session:
    request = session_pb2.CreateSessionRequest(settings=session_pb2.SessionSettings(**settings))  # type: ignore[arg-type]
    return (await room.sessions.CreateSession(request, metadata=person.metadata)).session


def keep(days: int) -> pb.Retention:
    return pb.Retention(keep=Duration(seconds=days * 86_400))


@pytest.mark.requirement("CTX-5")
async def test_the_server_decides_what_nobody_else_said(room: Room) -> None:
    person = await room.register()
    found = await preferred(room, person)
    assert (found.effective.memory_enabled, found.effective.private_mode) == (True, False)
    assert found.effective.location_retention == keep(30)
    assert found.effective.retention == pb.Retention(until_deleted=True)
    assert not found.effective.HasField("model")
    assert set(found.decided_by.values()) == {SERVER}
    assert [layer.kind for layer in found.layers] == [USER, pb.PREFERENCE_LAYER_KIND_SUGGESTION, SERVER]
    assert found.version == 0


@pytest.mark.requirement("CTX-5")
async def test_each_field_is_decided_by_the_strongest_layer_that_names_it(room: Room) -> None:
    person = await room.register()
    mild = message_pb2.GenerationParameters(temperature=0.2, max_output_tokens=500, stop=["END"])
    await prefer(room, person, model="theirs", units=pb.UNIT_SYSTEM_IMPERIAL, tone="brief", parameters=mild)
    hot = message_pb2.GenerationParameters(temperature=0.9)
    here = await session(room, person, model="here", language="fr", parameters=hot, private=True)
    found = await preferred(room, person, here.id)
    assert found.effective.model == "here"
    assert found.effective.parameters == message_pb2.GenerationParameters(
        temperature=0.9, max_output_tokens=500, stop=["END"]
    )
    assert (found.effective.units, found.effective.tone, found.effective.language) == (
        pb.UNIT_SYSTEM_IMPERIAL,
        "brief",
        "fr",
    )
    decided = dict(found.decided_by)
    assert {path: kind for path, kind in decided.items() if kind != SERVER} == {
        "model": SESSION,
        "language": SESSION,
        "private_mode": SESSION,
        "memory_enabled": SESSION,
        "parameters.temperature": SESSION,
        "parameters.max_output_tokens": USER,
        "parameters.stop": USER,
        "units": USER,
        "tone": USER,
    }
    assert found.layers[0].preferences.model == "here"
    assert (await preferred(room, person)).effective.model == "theirs"


@pytest.mark.requirement("CTX-5")
async def test_a_mask_takes_back_what_it_names_and_an_empty_one_leaves_the_rest(room: Room) -> None:
    person = await room.register()
    await prefer(room, person, model="a", tone="brief")
    await prefer(room, person, parameters=message_pb2.GenerationParameters(temperature=0.5, top_p=0.9))
    kept = await prefer(room, person, tone="warm")
    assert (kept.preferences.model, kept.preferences.tone, kept.version) == ("a", "warm", 3)
    taken = await prefer(room, person, "model", "parameters.top_p", tone="ignored")
    assert taken.preferences == pb.Preferences(
        tone="warm", parameters=message_pb2.GenerationParameters(temperature=0.5)
    )
    bare = await prefer(room, person, "parameters")
    assert bare.preferences == pb.Preferences(tone="warm")
    assert await refused(prefer(room, person, "colour", tone="x")) == "INVALID_FIELD"
    assert await refused(prefer(room, person, "parameters.colour", tone="x")) == "INVALID_FIELD"


@pytest.mark.requirement("CTX-5")
async def test_a_change_has_a_version_and_an_id(room: Room) -> None:
    person, request_id = await room.register(), ids.uuid()
    first = await prefer(room, person, tone="brief", expected_version=0, request_id=request_id)
    await prefer(room, person, tone="warm", expected_version=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prefer(room, person, tone="cold", expected_version=1)
    assert (info(caught.value).reason, info(caught.value).metadata["current"]) == ("VERSION_MISMATCH", "2")
    again = await prefer(room, person, tone="brief", expected_version=0, request_id=request_id)
    assert again == first
    reused = prefer(room, person, tone="other", expected_version=0, request_id=request_id)
    assert await refused(reused) == "IDEMPOTENCY_KEY_REUSED"
    assert (await preferred(room, person)).effective.tone == "warm"


@pytest.mark.requirement("CTX-5", "ID-9")
async def test_preferences_are_one_persons(start: Start) -> None:
    async with start(open_registration=True) as room:
        anna, bob = await room.register(), await room.register("bob@example.org")
        here = await session(room, anna)
        await prefer(room, anna, tone="brief")
        assert not (await preferred(room, bob)).effective.HasField("tone")
        assert await refused(preferred(room, bob, here.id)) == "SESSION_NOT_FOUND"


@pytest.mark.requirement("CTX-5")
async def test_private_mode_holds_for_sessions_that_begin_and_say_nothing_themselves(room: Room) -> None:
    person = await room.register()
    before = await session(room, person)
    await prefer(room, person, private_mode=True)
    request = session_pb2.CreateSessionRequest(session_id=ids.uuid())
    for _ in range(2):  # asked again it is the same session
        made = (await room.sessions.CreateSession(request, metadata=person.metadata)).session
        assert made.settings.private
    assert not (await session(room, person, private=False)).settings.private
    found = await room.sessions.GetSession(
        session_pb2.GetSessionRequest(session_id=before.id), metadata=person.metadata
    )
    assert not found.session.settings.private


@pytest.mark.requirement("CTX-4", "CTX-7")
async def test_how_long_positions_are_kept_follows_the_person_also_for_stored_ones(room: Room) -> None:
    phone = await room.register()
    await decide(room, phone, LOCATION, True)
    await put(room, phone, device=pb.DeviceContext(location=VIENNA))
    await prefer(room, phone, location_retention=keep(2))
    (item,) = (await get(room, phone)).items
    assert item.expire_time.seconds - item.update_time.seconds == 2 * 86_400
    async with watch(room, phone) as open_watch:
        await open_watch.snapshot()
        await prefer(room, phone, location_retention=pb.Retention(until_deleted=True))
        version, items, _ = await open_watch.change()
        assert (version, list(items)) == (3, [item.key])
    (item,) = (await get(room, phone)).items
    assert not item.HasField("expire_time")
    await prefer(room, phone, location_retention=keep(1))
    fresh = (await put(room, phone, device=pb.DeviceContext(location=VIENNA))).items[0]
    assert fresh.expire_time.seconds - fresh.update_time.seconds == 86_400
    room.clock.jump(DAY + timedelta(seconds=1))
    phone = await room.log_in(phone, phone.device_id)
    assert plain((await get(room, phone)).items) == {}
