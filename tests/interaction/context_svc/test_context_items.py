"""Context items: merged by key, versioned, bounded, expired, and nobody else's business. On both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value

from assistant.chat.v1 import chat_pb2
from assistant.chat.v1.chat_pb2_grpc import ChatServiceStub
from assistant.context.v1 import context_pb2 as pb
from assistant.context.v1.context_pb2_grpc import ContextServiceStub
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import Person, Room, Start
from tests.interaction.context_svc.refusal import info, refused


def json_value(plain: object) -> Value:
    return ParseDict(plain, Value())  # type: ignore[arg-type]  # any JSON for a Value


def write(key: str, plain: object, **fields: object) -> pb.ContextItemWrite:
    return pb.ContextItemWrite(key=key, value=json_value(plain), **fields)  # type: ignore[arg-type]


async def put(
    room: Room, person: Person, *items: pb.ContextItemWrite, **fields: object
) -> pb.UpdateContextResponse:
    request = pb.UpdateContextRequest(items=items, **{"request_id": ids.uuid(), **fields})  # type: ignore[arg-type]
    return await ContextServiceStub(room.channel).UpdateContext(request, metadata=person.metadata)


async def get(room: Room, person: Person, **fields: object) -> pb.GetContextResponse:
    request = pb.GetContextRequest(**fields)  # type: ignore[arg-type]
    return await ContextServiceStub(room.channel).GetContext(request, metadata=person.metadata)


async def delete(room: Room, person: Person, **fields: object) -> pb.DeleteContextItemsResponse:
    request = pb.DeleteContextItemsRequest(**{"request_id": ids.uuid(), **fields})  # type: ignore[arg-type]
    return await ContextServiceStub(room.channel).DeleteContextItems(request, metadata=person.metadata)


async def session(room: Room, person: Person) -> str:
    request = session_pb2.CreateSessionRequest()
    return (await room.sessions.CreateSession(request, metadata=person.metadata)).session.id


def plain(items: Sequence[pb.ContextItem]) -> dict[str, object]:
    return {item.key: MessageToDict(item.value) for item in items}


@pytest.mark.requirement("CTX-1", "CTX-2")
async def test_writes_merge_by_key_and_each_item_carries_the_version_of_its_change(room: Room) -> None:
    person = await room.register()
    first = await put(room, person, write("colour", "blue"), write("size", {"eu": 42}))
    second = await put(room, person, write("colour", ["red", 1.5, None, True]))
    found = await get(room, person)
    assert plain(found.items) == {"colour": ["red", 1.5, None, True], "size": {"eu": 42}}
    assert {item.key: item.version for item in found.items} == {"colour": 2, "size": 1}
    assert (first.cursor.version, second.cursor.version, found.user_cursor.version) == (1, 2, 2)
    colour = found.items[0]
    assert (colour.source, colour.scope) == (pb.CONTEXT_SOURCE_USER, pb.CONTEXT_SCOPE_USER)
    assert (colour.placement, colour.device_id) == (message_pb2.PLACEMENT_ANY, person.device_id)
    assert not found.HasField("session_cursor")


@pytest.mark.requirement("CTX-1")
async def test_a_session_has_a_scope_of_its_own_and_can_be_read_with_the_persons(room: Room) -> None:
    person = await room.register()
    here = await session(room, person)
    await put(room, person, write("colour", "blue"), write("pet", "cat"))
    await put(room, person, write("colour", "green"), session_id=here)
    alone = await get(room, person, session_id=here)
    both = await get(room, person, session_id=here, include_user_scope=True)
    assert plain(alone.items) == {"colour": "green"}
    assert [(item.scope, item.key) for item in both.items] == [
        (pb.CONTEXT_SCOPE_USER, "colour"),
        (pb.CONTEXT_SCOPE_USER, "pet"),
        (pb.CONTEXT_SCOPE_SESSION, "colour"),
    ]
    assert both.items[2].session_id == here
    assert both.HasField("user_cursor")
    assert both.HasField("session_cursor")
    assert plain((await get(room, person, key_prefix="pe")).items) == {"pet": "cat"}
    assert plain((await get(room, person, keys=["pet", "none"])).items) == {"pet": "cat"}
    assert plain((await get(room, person, keys=["pet"], key_prefix="co")).items) == {}


@pytest.mark.requirement("CTX-2")
async def test_a_write_on_an_older_version_is_refused_with_the_current_one(room: Room) -> None:
    person = await room.register()
    await put(room, person, write("a", 1))
    await put(room, person, write("a", 2), expected_version=1)
    for stale in (
        put(room, person, write("a", 3), expected_version=1),
        delete(room, person, keys=["a"], expected_version=1),
        put(room, person, write("a", 3, expected_version=1)),
        put(room, person, write("a", 3, expected_version=0)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stale
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert (info(caught.value).reason, info(caught.value).metadata["current"]) == (
            "VERSION_MISMATCH",
            "2",
        )
    assert plain((await get(room, person)).items) == {"a": 2}


@pytest.mark.requirement("CTX-2")
async def test_64_writers_at_once_lose_nothing(room: Room) -> None:
    person = await room.register()
    answers = await asyncio.gather(
        *(put(room, person, write(f"key-{n}", n), write("last", n)) for n in range(64))
    )
    found = await get(room, person)
    assert {key: value for key, value in plain(found.items).items() if key != "last"} == {
        f"key-{n}": n for n in range(64)
    }
    assert sorted(answer.cursor.version for answer in answers) == list(range(1, 65))
    newest = max(answers, key=lambda answer: answer.cursor.version)
    assert plain(found.items)["last"] == plain(newest.items)["last"]


@pytest.mark.requirement("CTX-2")
async def test_writers_who_expect_a_version_take_turns(room: Room) -> None:
    person = await room.register()

    async def count() -> None:
        while True:
            found = await get(room, person, keys=["n"])
            before = int(plain(found.items).get("n", 0))  # type: ignore[call-overload]
            try:
                await put(room, person, write("n", before + 1), expected_version=found.user_cursor.version)
            except grpc.aio.AioRpcError as error:
                if info(error).reason != "VERSION_MISMATCH":
                    raise
            else:
                return

    await asyncio.gather(*(count() for _ in range(16)))
    assert plain((await get(room, person)).items) == {"n": 16}


@pytest.mark.requirement("CTX-2")
async def test_a_repeated_write_or_deletion_answers_as_the_first_time(room: Room) -> None:
    person = await room.register()
    request_id, deletion_id = ids.uuid(), ids.uuid()
    first = await put(room, person, write("a", 1), request_id=request_id)
    await put(room, person, write("a", 2))
    assert await put(room, person, write("a", 1), request_id=request_id) == first
    assert plain((await get(room, person)).items) == {"a": 2}
    assert await refused(put(room, person, write("a", 9), request_id=request_id)) == "IDEMPOTENCY_KEY_REUSED"
    gone = await delete(room, person, keys=["a"], request_id=deletion_id)
    await put(room, person, write("a", 3))
    assert await delete(room, person, keys=["a"], request_id=deletion_id) == gone
    assert plain((await get(room, person)).items) == {"a": 3}


@pytest.mark.requirement("CTX-6")
async def test_an_answer_given_again_does_not_bring_back_what_was_deleted(room: Room) -> None:
    person, request_id = await room.register(), ids.uuid()
    await put(room, person, write("memory.1", {"text": "likes tea"}), request_id=request_id)
    await delete(room, person, key_prefix="memory.")
    again = await put(room, person, write("memory.1", {"text": "likes tea"}), request_id=request_id)
    assert not again.items
    assert again.cursor.version == 1
    assert not (await get(room, person)).items


@pytest.mark.requirement("CTX-2")
async def test_an_expired_item_is_never_returned_and_is_swept_later(room: Room) -> None:
    person = await room.register()
    await put(room, person, write("short", 1, ttl=Duration(seconds=60)), write("long", 2))
    await room.clock.asleep()
    room.clock.jump(timedelta(seconds=61))
    assert plain((await get(room, person)).items) == {"long": 2}
    assert (await get(room, person)).user_cursor.version == 1
    again = await put(room, person, write("short", 3, expected_version=0))
    assert plain(again.items) == {"short": 3}


@pytest.mark.requirement("CTX-1")
async def test_what_is_too_large_too_deep_or_too_many_is_refused(room: Room) -> None:
    person = await room.register()
    deep: object = 1
    for _ in range(32):
        deep = [deep]
    await put(room, person, write("deep", deep), write("large", "x" * (64 * 1024 - 2)))
    for bad in (
        write("deep", [deep]),
        write("large", "x" * (64 * 1024)),
        write("device.x.location", 1),
        write("memory.1", "no object"),
        pb.ContextItemWrite(key="empty", value=Value()),
        pb.ContextItemWrite(key="nan", value=Value(number_value=float("nan"))),
    ):
        assert await refused(put(room, person, bad)) == "INVALID_FIELD"
    assert await refused(put(room, person, write("a", 1), write("a", 2))) == "INVALID_FIELD"
    for n in range(15):
        await put(room, person, write(f"large{n}", "x" * 60_000))
    wide = [write(f"w{n}", "x" * 60_000) for n in range(3)]
    assert await refused(put(room, person, *wide)) == "QUOTA_EXCEEDED"
    await delete(room, person, key_prefix="large")
    for start in range(0, 999, 200):
        await put(room, person, *(write(f"k{n}", n) for n in range(start, min(start + 200, 999))))
    assert await refused(put(room, person, write("one-more", 1))) == "QUOTA_EXCEEDED"
    await put(room, person, write("k0", "still"))
    assert len((await get(room, person)).items) == 1000


@pytest.mark.requirement("CTX-2")
async def test_clients_cannot_speak_for_tools_or_models_or_other_devices(room: Room) -> None:
    person = await room.register()
    other = await room.log_in(person)
    for source in (pb.CONTEXT_SOURCE_TOOL, pb.CONTEXT_SOURCE_MODEL):
        assert await refused(put(room, person, write("a", 1, source=source))) == "CONTEXT_SOURCE_FORBIDDEN"
    device = pb.CONTEXT_SOURCE_DEVICE
    await put(room, person, write("mine", 1, source=device), write("persons", 1))
    await put(room, person, write("mine", 2, source=device))
    assert await refused(put(room, other, write("mine", 3, source=device))) == "CONTEXT_SOURCE_FORBIDDEN"
    assert await refused(put(room, person, write("persons", 3, source=device))) == "CONTEXT_SOURCE_FORBIDDEN"
    await put(room, other, write("mine", 4))
    assert (await get(room, person, keys=["mine"])).items[0].source == pb.CONTEXT_SOURCE_USER


@pytest.mark.requirement("CTX-1", "ID-9")
async def test_the_context_of_others_is_not_found(start: Start) -> None:
    async with start(open_registration=True) as room:
        anna, bob = await room.register(), await room.register("bob@example.org")
        here = await session(room, anna)
        await put(room, anna, write("secret", 1))
        await put(room, anna, write("secret", 1), session_id=here)
        for foreign in (
            get(room, bob, session_id=here),
            put(room, bob, write("a", 1), session_id=here),
            delete(room, bob, session_id=here, keys=["secret"]),
        ):
            assert await refused(foreign) == "SESSION_NOT_FOUND"
        assert not (await get(room, bob)).items


@pytest.mark.requirement("CTX-2")
async def test_a_change_of_a_sessions_context_is_an_event_of_its_log(room: Room) -> None:
    person = await room.register()
    here = await session(room, person)
    await put(room, person, write("b", 1), write("a", 1), session_id=here)
    await delete(room, person, session_id=here, key_prefix="a")
    await delete(room, person, session_id=here, keys=["never"])
    request = chat_pb2.ListEventsRequest(session_id=here)
    events = (await ChatServiceStub(room.channel).ListEvents(request, metadata=person.metadata)).events
    assert [(each.context_changed.version, list(each.context_changed.keys)) for each in events] == [
        (1, ["a", "b"]),
        (2, ["a"]),
    ]
    end = session_pb2.EndSessionRequest(session_id=here)
    await room.sessions.EndSession(end, metadata=person.metadata)
    assert await refused(put(room, person, write("c", 1), session_id=here)) == "SESSION_ENDED"


@pytest.mark.requirement("CTX-1")
async def test_a_placement_stays_until_it_is_changed(room: Room) -> None:
    person = await room.register()
    local = message_pb2.PLACEMENT_LOCAL_ONLY
    await put(room, person, write("a", 1, placement=local))
    assert (await put(room, person, write("a", 2))).items[0].placement == local
    changed = await put(room, person, write("a", 3, placement=message_pb2.PLACEMENT_ANY))
    assert changed.items[0].placement == message_pb2.PLACEMENT_ANY
