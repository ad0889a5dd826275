"""An account that moves: exported as an archive, imported elsewhere with equal content, whatever happens on the way."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2
from assistant.error.v1 import error_pb2
from assistant.identity.v1 import identity_pb2
from assistant.media.v1 import media_pb2
from assistant.message.v1 import message_pb2
from assistant.reminder.v1 import reminder_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.clock import SystemClock
from chassis.testing import socket_directory
from tests.interaction.accounts.conftest import new_database
from tests.interaction.accounts.house import House, Mesh, Person
from tests.interaction.accounts.test_erasure import reason
from tests.interaction.context_svc.conversation_room import Stage


async def export(person: Person, **request: Any) -> bytes:
    """A whole archive. Fails when the stream does not end as it should."""
    wanted = identity_pb2.ExportAccountRequest(**{"request_id": ids.uuid(), **request})
    frames = [frame async for frame in person.identity.ExportAccount(wanted)]
    assert frames[0].HasField("started")
    archive = b"".join(frame.chunk for frame in frames)
    assert frames[-1].finished.size == len(archive)
    assert frames[-1].finished.sha256 == hashlib.sha256(archive).hexdigest()
    return archive


def records(archive: bytes) -> dict[str, list[dict[str, Any]]]:
    """The records of an archive by kind."""
    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        assert whole.testzip() is None
        return {
            name.removesuffix(".jsonl"): [json.loads(line) for line in whole.read(name).splitlines()]
            for name in whole.namelist()
            if name.endswith(".jsonl")
        }


def blobs(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        return {
            name.removeprefix("blobs/"): whole.read(name)
            for name in whole.namelist()
            if name.startswith("blobs/")
        }


async def fill(person: Person) -> None:
    """Some of everything that an account can hold."""
    for n in range(2):
        session = await person.session(f"talk {n}")
        media = await person.upload(f"file {n} ".encode() * 40_000, f"notes {n}.txt")
        part = message_pb2.Part(
            document=message_pb2.DocumentPart(media=message_pb2.MediaReference(media_id=media.id))
        )
        await person.say(session, f"hello {n}")
        await person.say(session, "look at this \U0001f600", part)
        write = context_pb2.ContextItemWrite(key="place", value=Value(string_value=f"Rome {n}"))
        await person.context.UpdateContext(
            context_pb2.UpdateContextRequest(request_id=ids.uuid(), session_id=session, items=[write])
        )
    reminder = reminder_pb2.CreateReminderRequest(request_id=ids.uuid(), text="Call mum")
    reminder.due_time.FromMicroseconds(SystemClock().now_us() + 3_600_000_000)
    await person.reminders.CreateReminder(reminder)
    write = context_pb2.ContextItemWrite(key="diet", value=Value(string_value="vegetarian"))
    await person.context.UpdateContext(context_pb2.UpdateContextRequest(request_id=ids.uuid(), items=[write]))


@pytest.mark.requirement("ID-7")
async def test_an_archive_holds_everything_and_nothing_of_others(mesh: Mesh) -> None:
    person, other = await mesh.register("anna@example.org"), await mesh.register("bob@example.org", "Bob")
    await fill(person)
    await other.say(await other.session("secret"), "of bob")
    token = identity_pb2.CreateApiTokenRequest(
        request_id=ids.uuid(), name="script", scopes=[identity_pb2.TOKEN_SCOPE_READ]
    )
    secret = (await person.identity.CreateApiToken(token)).secret
    archive = await export(person)
    found = records(archive)
    assert {kind: len(lines) for kind, lines in found.items() if kind != "events"} == {
        "account": 1,
        "devices": 1,
        "api_tokens": 1,
        "suggestions": 0,
        "reminders": 1,
        "sessions": 2,
        "context_items": 3,
        "messages": 8,
        "turns": 4,
        "media": 2,
    }
    assert {each.get("turnId") for each in found["events"]} >= {each["turnId"] for each in found["turns"]}
    assert {hashlib.sha256(data).hexdigest() for data in blobs(archive).values()} == set(blobs(archive))
    assert {each["sha256"] for each in found["media"]} == set(blobs(archive))
    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        text = b"".join(whole.read(name) for name in whole.namelist())
        manifest = json.loads(whole.read("manifest.json"))
    assert not [each for each in (b"of bob", secret.encode(), b"password") if each in text.lower()]
    assert (manifest["format"], manifest["version"]) == ("assistant-account", 1)
    assert manifest["counts"] == {kind: len(lines) for kind, lines in found.items()}


@pytest.mark.requirement("ID-7")
async def test_exports_are_limited_but_a_repetition_is_not(mesh: Mesh) -> None:
    person = await mesh.register("anna@example.org")
    request_id = ids.uuid()
    first = await export(person, request_id=request_id, without_blobs=True)
    again = await export(person, request_id=request_id, without_blobs=True)
    assert records(first)["sessions"] == records(again)["sessions"]
    assert await reason(export(person, request_id=request_id)) == "IDEMPOTENCY_KEY_REUSED"
    assert await reason(export(person)) == "RATE_LIMITED"


@pytest.fixture
async def far(request: pytest.FixtureRequest, house: House, tmp_path: Path) -> AsyncIterator[House]:
    """Another house on the same engine."""
    url = await new_database(request.getfixturevalue("postgres_url")) if house.database else ""
    with socket_directory() as sockets:
        yield House(folder=tmp_path / "elsewhere", sockets=sockets, database=url)


@pytest.fixture
async def elsewhere(far: House) -> AsyncIterator[Mesh]:
    """Its mesh, running."""
    async with far.running() as running:
        yield running


def pieces(data: bytes) -> list[bytes]:
    return [data[at : at + 262_144] for at in range(0, len(data), 262_144)]


async def send(person: Person, archive: bytes, **header: Any) -> identity_pb2.AccountImport:
    """An import in one stream."""
    wanted = identity_pb2.ImportHeader(
        **{
            "request_id": ids.uuid(),
            "size": len(archive),
            "sha256": hashlib.sha256(archive).hexdigest(),
            **header,
        }
    )

    async def frames() -> AsyncIterator[identity_pb2.ImportAccountRequest]:
        yield identity_pb2.ImportAccountRequest(header=wanted)
        for chunk in pieces(archive):
            yield identity_pb2.ImportAccountRequest(chunk=chunk)

    answer: identity_pb2.ImportAccountResponse = await person.identity.ImportAccount(frames())
    return answer.account_import


async def applied(person: Person, import_id: str) -> identity_pb2.AccountImport:
    """The import at its end."""
    async with asyncio.timeout(20):
        while True:
            request = identity_pb2.GetImportRequest(import_id=import_id)
            answer: identity_pb2.GetImportResponse = await person.identity.GetImport(request)
            found = answer.account_import
            if found.state in (identity_pb2.IMPORT_STATE_FINISHED, identity_pb2.IMPORT_STATE_FAILED):
                return found
            await asyncio.sleep(0.02)


CONTENT = ("sessions", "context_items", "messages", "events", "turns", "media", "preferences")


def content(archive: bytes) -> dict[str, Any]:
    """What two archives of equal content have in common: files have no claim-dependent expiry."""
    found = {kind: lines for kind, lines in records(archive).items() if kind in CONTENT}
    for media in found["media"]:
        media.pop("expireTime", None)
    return {
        **found,
        "media": sorted(found["media"], key=lambda each: str(each["id"])),
        "blobs": blobs(archive),
    }


@pytest.mark.requirement("ID-7")
async def test_what_is_imported_elsewhere_is_equal(mesh: Mesh, elsewhere: Mesh) -> None:
    person = await mesh.register("anna@example.org")
    await fill(person)
    archive = await export(person)
    moved = await elsewhere.register("anna@example.org", device="New phone")
    ended = await applied(moved, (await send(moved, archive)).id)
    assert ended.state == identity_pb2.IMPORT_STATE_FINISHED
    assert ended.progress == 1
    assert dict(ended.added_counts)["messages"] == 8
    assert content(await export(moved)) == content(archive)
    (due,) = (await moved.reminders.ListReminders(reminder_pb2.ListRemindersRequest())).reminders
    assert (due.text, due.state) == ("Call mum", reminder_pb2.REMINDER_STATE_SCHEDULED)
    devices = (await moved.identity.ListDevices(identity_pb2.ListDevicesRequest())).devices
    assert {each.name: each.signed_in for each in devices} == {"Terminal": False, "New phone": True}
    session = records(archive)["sessions"][0]["id"]
    events = await moved.say(session, "and on it goes")
    assert events[-1].HasField("turn_finished")
    messages = await moved.chat.ListMessages(chat_pb2.ListMessagesRequest(session_id=session))
    assert len(messages.messages) == 6


async def verdict(person: Person, session: str) -> tuple[str, message_pb2.Rating]:
    """The id of the first answer in a session, and what the person thought of it."""
    asked = chat_pb2.ListMessagesRequest(session_id=session)
    messages = (await person.chat.ListMessages(asked)).messages
    answers = [each for each in messages if each.role == message_pb2.ROLE_ASSISTANT]
    answer = min(answers, key=lambda each: each.sequence)
    return answer.id, answer.rating


@pytest.mark.requirement("CTX-8")
@pytest.mark.requirement("ID-7")
async def test_a_verdict_a_private_session_and_an_action_run_directly_are_taken_along(
    mesh: Mesh, far: House
) -> None:
    person = await mesh.register("anna@example.org")
    session = ids.uuid()
    private = session_pb2.SessionSettings(private=True)
    await person.sessions.CreateSession(
        session_pb2.CreateSessionRequest(session_id=session, settings=private)
    )
    await person.say(session, "hello")
    answer, _ = await verdict(person, session)
    rating = message_pb2.Rating(verdict=message_pb2.VERDICT_UP, remark="just so")
    await person.chat.RateMessage(
        chat_pb2.RateMessageRequest(session_id=session, message_id=answer, rating=rating)
    )
    action = agent_pb2.ExecuteActionRequest(
        request_id=ids.uuid(),
        session_id=session,
        action="current_time",
        arguments_json='{"zone":"UTC"}',
        follow=True,
    )
    acted = [frame.event.turn_id async for frame in person.agent.ExecuteAction(action)]
    archive = await export(person)
    async with far.running() as elsewhere:
        moved = await elsewhere.register("anna@example.org")
        ended = await applied(moved, (await send(moved, archive)).id)
        assert ended.state == identity_pb2.IMPORT_STATE_FINISHED
        assert await verdict(moved, session) == (answer, rating)
        assert content(await export(moved)) == content(archive)
        again = chat_pb2.RegenerateTurnRequest(session_id=session, turn_id=acted[0], request_id=ids.uuid())
        await moved.chat.RegenerateTurn(again)
        listed = await moved.chat.ListEvents(chat_pb2.ListEventsRequest(session_id=session))
        accepted = [event.turn_accepted for event in listed.events if event.HasField("turn_accepted")]
        repeated = next(each for each in accepted if each.regenerated_turn_id)
        assert (repeated.action.action, repeated.regenerated_turn_id) == ("current_time", acted[0])
    assert await far.column("session", "private") == [1]


@pytest.mark.requirement("ID-7")
async def test_an_archive_imported_twice_or_at_home_adds_nothing(mesh: Mesh, elsewhere: Mesh) -> None:
    person = await mesh.register("anna@example.org")
    await fill(person)
    archive = await export(person)
    home = await applied(person, (await send(person, archive)).id)
    assert dict(home.added_counts) == {}
    moved = await elsewhere.register("anna@example.org")
    first = await applied(moved, (await send(moved, archive)).id)
    second = await applied(moved, (await send(moved, archive)).id)
    assert dict(second.added_counts) == {}
    assert dict(second.present_counts) == dict(first.added_counts)
    assert content(await export(moved)) == content(archive)


@pytest.mark.requirement("ID-7")
async def test_an_archive_goes_into_another_account_of_the_same_mesh_without_touching_the_first(
    mesh: Mesh,
) -> None:
    person, other = await mesh.register("anna@example.org"), await mesh.register("bob@example.org")
    await fill(person)
    archive = await export(person)
    ended = await applied(other, (await send(other, archive)).id)
    assert ended.state == identity_pb2.IMPORT_STATE_FINISHED
    mine, theirs = content(archive), content(await export(other))
    assert sorted(each["title"] for each in theirs["sessions"]) == ["talk 0", "talk 1"]
    assert not {each["id"] for each in theirs["sessions"]} & {each["id"] for each in mine["sessions"]}
    assert not {each["id"] for each in theirs["media"]} & {each["id"] for each in mine["media"]}
    assert theirs["blobs"] == mine["blobs"]
    named = {
        part["document"]["media"]["mediaId"]
        for message in theirs["messages"]
        for part in message["parts"]
        if "document" in part
    }
    assert named == {each["id"] for each in theirs["media"]}
    assert {each["sessionId"] for each in theirs["events"]} == {each["id"] for each in theirs["sessions"]}


async def begin(person: Person, archive: bytes, **header: Any) -> identity_pb2.AccountImport:
    """An import in chunks, announced."""
    wanted = identity_pb2.ImportHeader(
        **{
            "request_id": ids.uuid(),
            "size": len(archive),
            "sha256": hashlib.sha256(archive).hexdigest(),
            **header,
        }
    )
    answer = await person.identity.CreateImport(identity_pb2.CreateImportRequest(header=wanted))
    created: identity_pb2.AccountImport = answer.account_import
    return created


async def write(person: Person, import_id: str, offset: int, chunk: bytes) -> identity_pb2.AccountImport:
    request = identity_pb2.WriteImportRequest(import_id=import_id, offset=offset, chunk=chunk)
    answer: identity_pb2.WriteImportResponse = await person.identity.WriteImport(request)
    return answer.account_import


@pytest.mark.requirement("ID-7")
async def test_an_import_in_chunks_survives_kills_lost_answers_and_gaps(
    house: House, elsewhere: Mesh
) -> None:
    moved = await elsewhere.register("anna@example.org")
    await fill(moved)
    archive = await export(moved)
    half = 200_000
    request_id = ids.uuid()
    async with house.running() as mesh:
        person = await mesh.register("anna@example.org")
        arriving = await begin(person, archive, request_id=request_id)
        gap = write(person, arriving.id, 10, archive[10:50])
        assert await reason(gap) == "OFFSET_MISMATCH"
        await write(person, arriving.id, 0, archive[:half])
    async with house.context() as mesh:  # without media_svc
        person = Person(account=person.account, email=person.email, metadata=person.metadata, mesh=mesh)
        again = await begin(person, archive, request_id=request_id)
        assert (again.id, again.received_size) == (arriving.id, half)
        assert (await write(person, again.id, 0, archive[:half])).received_size == half
        for at in range(half - 5, len(archive), half):
            last = await write(person, again.id, at, archive[at : at + half])
        assert last.state == identity_pb2.IMPORT_STATE_APPLYING
    async with house.running() as mesh:
        person = Person(account=person.account, email=person.email, metadata=person.metadata, mesh=mesh)
        ended = await applied(person, arriving.id)
        assert ended.state == identity_pb2.IMPORT_STATE_FINISHED
        assert content(await export(person)) == content(archive)


def packed(entries: Mapping[str, bytes | str] | None = None) -> bytes:
    """An archive made by hand: a good manifest, and these files."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as whole:
        manifest = {"format": "assistant-account", "version": 1}
        contents: dict[str, bytes | str] = {"manifest.json": json.dumps(manifest), **(entries or {})}
        for name, data in contents.items():
            whole.writestr(name, data)
    return sink.getvalue()


SESSION = '{"id":"01a210b8-aadc-7edf-814d-3ecd8cc3a164","state":"SESSION_STATE_OPEN","lastSequence":"1"}\n'
HOSTILE: dict[str, bytes] = {
    "no zip": b"this is no archive at all",
    "no manifest": packed({"manifest.json": "{}"}),
    "a newer version": packed({"manifest.json": '{"format":"assistant-account","version":2}'}),
    "a path out of it": packed({"../../etc/passwd": "x"}),
    "an unknown file": packed({"run.sh": "x"}),
    "no JSON": packed({"sessions.jsonl": "{\n"}),
    "deep JSON": packed({"sessions.jsonl": "[" * 100_000 + "\n"}),
    "a long line": packed({"sessions.jsonl": '{"title":"' + "x" * 4_000_000 + '"}\n'}),
    "text with NUL": packed({"sessions.jsonl": SESSION.replace('"state"', '"title":"\\u0000","state"')}),
    "a session twice": packed({"sessions.jsonl": SESSION * 2}),
    "an event of no session": packed(
        {"events.jsonl": '{"sessionId":"x","sequence":"1","textDelta":{"text":"x"}}\n'}
    ),
    "an event beyond the log": packed(
        {
            "sessions.jsonl": SESSION,
            "events.jsonl": '{"sessionId":"01a210b8-aadc-7edf-814d-3ecd8cc3a164","sequence":"7",'
            '"textDelta":{"text":"x"}}\n',
        }
    ),
    "a file that is not what it says": packed(
        {
            "media.jsonl": json.dumps({"id": "m", "sha256": "0" * 64, "size": "3", "mimeType": "text/plain"})
            + "\n",
            f"blobs/{'0' * 64}": b"abc",
        }
    ),
}


@pytest.mark.requirement("ID-7")
async def test_a_hostile_archive_is_refused_with_its_reason_and_nothing_of_it_stays(mesh: Mesh) -> None:
    person = await mesh.register("anna@example.org")
    arriving = {what: (await send(person, archive)).id for what, archive in list(HOSTILE.items())[:3]}
    for what, import_id in arriving.items():
        assert (await applied(person, import_id)).state == identity_pb2.IMPORT_STATE_FAILED, what
    for what, archive in list(HOSTILE.items())[3:]:
        ended = await applied(person, (await send(person, archive)).id)
        assert ended.state == identity_pb2.IMPORT_STATE_FAILED, what
        wanted = error_pb2.ERROR_REASON_ARCHIVE_INVALID
        if "not what it says" in what:
            wanted = error_pb2.ERROR_REASON_MEDIA_DIGEST_MISMATCH
        assert ended.failure == wanted, what
        assert ended.failure_message
    assert not (await person.sessions.ListSessions(session_pb2.ListSessionsRequest())).sessions
    assert not (await person.media.ListMedia(media_pb2.ListMediaRequest())).media


@pytest.mark.requirement("ID-7")
async def test_what_was_announced_otherwise_is_refused_and_strangers_see_no_import(mesh: Mesh) -> None:
    person, other = await mesh.register("anna@example.org"), await mesh.register("bob@example.org")
    archive = packed()
    assert await reason(send(person, archive, sha256="0" * 64)) == "MEDIA_DIGEST_MISMATCH"
    assert await reason(send(person, archive, size=len(archive) + 1)) == "MEDIA_DIGEST_MISMATCH"
    arriving = await begin(person, archive)
    for call in (
        write(other, arriving.id, 0, archive),
        other.identity.GetImport(identity_pb2.GetImportRequest(import_id=arriving.id)),
    ):
        assert await reason(call) == "IMPORT_NOT_FOUND"
    huge = await reason(begin(person, archive, size=2**50))
    assert huge == "QUOTA_EXCEEDED"


@pytest.mark.requirement("ID-7")
async def test_a_turn_that_was_open_has_failed_after_the_move(
    house: House, mesh: Mesh, elsewhere: Mesh
) -> None:
    person = await mesh.register("anna@example.org")

    async def hangs(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        await stage.cancelled.wait()

    house.orchestrator.play = hangs
    session = await person.session("talk")
    message = chat_pb2.NewMessage(
        session_id=session, client_message_id=ids.uuid(), parts=[message_pb2.Part(text="hello")]
    )
    call = person.chat.SendMessage(chat_pb2.SendMessageRequest(message=message, follow=True), timeout=30)
    async for frame in call:
        if frame.event.HasField("turn_started"):
            break
    call.cancel()
    archive = await export(person)
    moved = await elsewhere.register("anna@example.org")
    assert (await applied(moved, (await send(moved, archive)).id)).state == identity_pb2.IMPORT_STATE_FINISHED
    events = (await moved.chat.ListEvents(chat_pb2.ListEventsRequest(session_id=session))).events
    assert events[-1].turn_failed.reason == error_pb2.ERROR_REASON_OWNER_LOST
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))
    assert (await moved.say(session, "again"))[-1].HasField("turn_finished")
    await person.delete()  # which stops the turn
