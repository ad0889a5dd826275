"""Sessions of a person: made once, listed in order, changed by version, ended, and nobody else's business."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis import ids
from tests.interaction.context_svc.conftest import Person, Room, Start
from tests.interaction.context_svc.refusal import info, refused


async def create(room: Room, person: Person, **values: object) -> session_pb2.Session:
    request = session_pb2.CreateSessionRequest(**values)  # type: ignore[arg-type]
    return (await room.sessions.CreateSession(request, metadata=person.metadata)).session


async def get(room: Room, person: Person, session_id: str) -> session_pb2.Session:
    request = session_pb2.GetSessionRequest(session_id=session_id)
    return (await room.sessions.GetSession(request, metadata=person.metadata)).session


async def titles(room: Room, person: Person, size: int = 0, *, open_only: bool = False) -> list[str]:
    found, token = [], ""
    while True:
        request = session_pb2.ListSessionsRequest(page_size=size, page_token=token, open_only=open_only)
        page = await room.sessions.ListSessions(request, metadata=person.metadata)
        found += [session.title for session in page.sessions]
        if not (token := page.next_page_token):
            return found


async def update(
    room: Room, person: Person, session_id: str, *paths: str, version: int = 0, **patch: object
) -> session_pb2.Session:
    request = session_pb2.UpdateSessionRequest(
        session_id=session_id,
        patch=session_pb2.SessionPatch(**patch),  # type: ignore[arg-type]
        update_mask=FieldMask(paths=paths),
        expected_version=version,
    )
    return (await room.sessions.UpdateSession(request, metadata=person.metadata)).session


async def end(room: Room, person: Person, session_id: str) -> session_pb2.Session:
    request = session_pb2.EndSessionRequest(session_id=session_id)
    return (await room.sessions.EndSession(request, metadata=person.metadata)).session


@pytest.mark.requirement("SES-1")
async def test_a_session_is_made_by_this_device_and_survives_a_restart(start: Start) -> None:
    async with start() as room:
        person = await room.register()
        made = await create(room, person, title="Trip to Rome")
    assert made.state == session_pb2.SESSION_STATE_OPEN
    assert made.title_source == session_pb2.TITLE_SOURCE_USER
    assert made.device_id == person.device_id
    assert made.log_epoch
    async with start() as room:
        assert await get(room, person, made.id) == made


@pytest.mark.requirement("SES-1", "CHAT-17")
async def test_the_same_creation_repeated_32_times_at_once_is_one_session(room: Room) -> None:
    person, wanted = await room.register(), ids.uuid()
    settings = session_pb2.SessionSettings(model="m", private=False)
    made = await asyncio.gather(
        *(create(room, person, session_id=wanted, title="Once", settings=settings) for _ in range(32))
    )
    assert {session.id for session in made} == {wanted}
    assert await titles(room, person) == ["Once"]


async def test_a_repeated_creation_is_found_also_after_the_title_was_changed(room: Room) -> None:
    person, wanted = await room.register(), ids.uuid()
    await create(room, person, session_id=wanted, title="Before")
    await update(room, person, wanted, "title", title="After")
    assert (await create(room, person, session_id=wanted, title="Before")).title == "After"


async def test_an_id_of_another_shape_or_person_is_refused(start: Start) -> None:
    async with start(open_registration=True) as room:
        anna, bob = await room.register(), await room.register("bob@example.org")
        session = await create(room, anna, session_id=ids.uuid(), title="Anna's")
        assert await refused(create(room, anna, session_id=session.id, title="Other")) == (
            "IDEMPOTENCY_KEY_REUSED"
        )
        assert await refused(create(room, bob, session_id=session.id, title="Anna's")) == (
            "IDEMPOTENCY_KEY_REUSED"
        )


@pytest.mark.requirement("SES-1")
async def test_sessions_of_others_are_not_found_exactly_like_those_that_never_were(start: Start) -> None:
    async with start(open_registration=True) as room:
        anna, bob = await room.register(), await room.register("bob@example.org")
        session = await create(room, anna, title="Anna's")
        for session_id in (session.id, ids.uuid(), "nonsense"):
            resume = session_pb2.ResumeSessionRequest(session_id=session_id)
            for call in (
                get(room, bob, session_id),
                end(room, bob, session_id),
                update(room, bob, session_id, "title", title="Mine"),
                room.sessions.ResumeSession(resume, metadata=bob.metadata),
            ):
                assert await refused(call) == "SESSION_NOT_FOUND"
        assert await titles(room, bob) == []
        assert await titles(room, anna) == ["Anna's"]


@pytest.mark.requirement("SES-1")
async def test_the_list_pages_newest_activity_first_whatever_the_page_size(room: Room) -> None:
    person = await room.register()
    made = []
    for number in range(7):
        await room.clock.advance(timedelta(seconds=1 if number % 2 else 0))  # some at the same instant
        made.append(await create(room, person, title=str(number)))
    expected = [
        session.title
        for session in sorted(
            made, key=lambda each: (each.update_time.ToNanoseconds(), each.id), reverse=True
        )
    ]
    for size in (1, 2, 3, 7, 0):
        assert await titles(room, person, size) == expected
    await room.clock.advance(timedelta(seconds=1))
    await update(room, person, made[0].id, "title", title="touched")
    assert (await titles(room, person))[0] == "touched"
    await end(room, person, made[3].id)
    assert "3" not in await titles(room, person, 2, open_only=True)
    assert "3" in await titles(room, person, 2)


async def test_a_page_token_is_good_for_its_person_and_its_query_only(start: Start) -> None:
    async with start(open_registration=True) as room:
        anna, bob = await room.register(), await room.register("bob@example.org")
        for person in (anna, bob):
            for number in range(3):
                await create(room, person, title=str(number))
        first = session_pb2.ListSessionsRequest(page_size=1)
        token = (await room.sessions.ListSessions(first, metadata=anna.metadata)).next_page_token
        forged = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
        for person, page_token, open_only in (
            (bob, token, False),
            (anna, token, True),
            (anna, forged, False),
            (anna, "%%%", False),
            (anna, "AAAA", False),
        ):
            request = session_pb2.ListSessionsRequest(page_size=1, page_token=page_token, open_only=open_only)
            call = room.sessions.ListSessions(request, metadata=person.metadata)
            assert await refused(call) == "PAGE_TOKEN_INVALID"
        other_size = session_pb2.ListSessionsRequest(page_size=2, page_token=token)
        assert (await room.sessions.ListSessions(other_size, metadata=anna.metadata)).sessions


async def test_an_update_takes_only_what_its_mask_names(room: Room) -> None:
    person = await room.register()
    settings = session_pb2.SessionSettings(model="small", instructions="be brief")
    made = await create(room, person, title="Old", settings=settings)
    patch = session_pb2.SessionSettings(
        model="large", parameters=message_pb2.GenerationParameters(temperature=0.5)
    )
    changed = await update(
        room, person, made.id, "settings.model", "settings.instructions", title="New", settings=patch
    )
    assert changed.title == "Old"
    assert changed.settings == session_pb2.SessionSettings(model="large")
    assert changed.version == made.version + 1
    whole = await update(room, person, made.id, "settings", "title", title="New", settings=patch)
    assert (whole.title, whole.settings) == ("New", patch)
    same = await update(room, person, made.id, "title", title="New")
    assert same.version == whole.version


async def test_an_update_of_another_version_is_refused_and_names_the_stored_one(room: Room) -> None:
    person = await room.register()
    made = await create(room, person)
    await update(room, person, made.id, "title", title="A", version=made.version)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(room, person, made.id, "title", title="B", version=made.version)
    assert info(caught.value).reason == "VERSION_MISMATCH"
    assert info(caught.value).metadata["current"] == str(made.version + 1)


async def test_of_32_writers_of_one_version_one_wins(room: Room) -> None:
    person = await room.register()
    made = await create(room, person)
    answers = await asyncio.gather(
        *(
            update(room, person, made.id, "title", title=f"t{each}", version=made.version)
            for each in range(32)
        ),
        return_exceptions=True,
    )
    winners = [each for each in answers if isinstance(each, session_pb2.Session)]
    assert len(winners) == 1
    assert (await get(room, person, made.id)).title == winners[0].title


@pytest.mark.parametrize("path", ["id", "settings.nonsense", "settings.parameters.seed", ""])
async def test_a_mask_that_names_no_such_field_is_refused(room: Room, path: str) -> None:
    person = await room.register()
    made = await create(room, person)
    assert await refused(update(room, person, made.id, *([path] if path else []))) == "INVALID_FIELD"


@pytest.mark.requirement("SES-1")
async def test_an_ended_session_can_be_read_and_not_resumed(room: Room) -> None:
    person = await room.register()
    made = await create(room, person, title="Done")
    resume = session_pb2.ResumeSessionRequest(session_id=made.id)
    resumed = await room.sessions.ResumeSession(resume, metadata=person.metadata)
    assert resumed.session == made
    assert (resumed.end.session_id, resumed.end.sequence) == (made.id, 0)
    assert resumed.end.log_epoch == made.log_epoch
    assert resumed.acknowledged.sequence == 0
    ended = await end(room, person, made.id)
    assert ended.state == session_pb2.SESSION_STATE_ENDED
    assert ended.HasField("end_time")
    assert await end(room, person, made.id) == ended
    assert await get(room, person, made.id) == ended
    again = room.sessions.ResumeSession(resume, metadata=person.metadata)
    assert await refused(again) == "SESSION_ENDED"


async def test_a_sealed_session_is_not_pretended(room: Room) -> None:
    person = await room.register()
    assert await refused(create(room, person, sealed=True)) == "NOT_SERVED"


async def delete(room: Room, person: Person, session_id: str, *, allow_missing: bool = False) -> None:
    request = session_pb2.DeleteSessionRequest(session_id=session_id, allow_missing=allow_missing)
    await room.sessions.DeleteSession(request, metadata=person.metadata)


@pytest.mark.requirement("SES-1")
async def test_a_deleted_session_is_gone_and_deleting_it_again_can_be_allowed(room: Room) -> None:
    person = await room.register()
    kept, gone = await create(room, person, title="kept"), await create(room, person, title="gone")
    await delete(room, person, gone.id)
    assert await titles(room, person) == ["kept"]
    assert await refused(get(room, person, gone.id)) == "SESSION_NOT_FOUND"
    assert await refused(delete(room, person, gone.id)) == "SESSION_NOT_FOUND"
    await delete(room, person, gone.id, allow_missing=True)
    assert (await get(room, person, kept.id)).title == "kept"
