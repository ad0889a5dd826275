"""A backup is made while the room serves, and brings a state back: without what was erased since, in a new epoch."""

from __future__ import annotations

import asyncio
import json
import os
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.chat.v1.chat_pb2_grpc import ChatServiceStub
from assistant.message.v1 import message_pb2
from assistant.operator.v1 import operator_pb2
from assistant.session.v1 import session_pb2
from assistant.turn.v1.turn_pb2_grpc import add_TurnServiceServicer_to_server
from chassis import engines, ids
from chassis.auth import room_issuer
from chassis.boundary import Boundary
from chassis.clock import SystemClock
from chassis.health import Health
from chassis.keys import load_or_create_key, to_jwk
from chassis.serve import serving
from chassis.testing import Everyone
from context_svc import archive, copies
from context_svc.backups import KEPT_US, ROUND, SCHEMA
from context_svc.wire.session import is_private
from media_svc.app import app as media_app
from media_svc.settings import Settings as MediaSettings
from tests.conftest import Place
from tests.interaction.context_svc.conftest import Person, Room, Start
from tests.interaction.context_svc.conversation_room import TURN_POLICIES, PlayedOrchestrator, caller
from tests.interaction.context_svc.refusal import refused

Named = session_pb2.Session


@asynccontextmanager
async def whole(start: Start, place: Place, socket_dir: Path, tmp_path: Path) -> AsyncIterator[Room]:
    """context_svc with a real media_svc beside it, and an orchestrator that answers at once."""
    media, orchestrator = f"unix:{socket_dir}/m.sock", f"unix:{socket_dir}/or.sock"
    boundary = Boundary(policies=TURN_POLICIES, authenticator=Everyone(caller()), domain="assistant.mesh")
    turns = PlayedOrchestrator()
    async with (
        serving(
            addresses=[orchestrator],
            services=[lambda server: add_TurnServiceServicer_to_server(turns, server)],
            service_names=[],
            boundary=boundary,
            health=Health(),
            grace=timedelta(0),
        ),
        start(media=media, orchestrator=orchestrator, backup_dir=tmp_path / "kept") as room,
    ):
        trust_context(tmp_path / "keys")
        settings = MediaSettings.model_validate(
            {
                "listen": media,
                "context": room.address,
                "keys_dir": tmp_path / "keys",
                "data_dir": tmp_path / "data",
            }
        )
        async with media_app(settings):
            yield room


def trust_context(keys: Path) -> None:
    """Let the other rooms know the key of context_svc."""
    public = load_or_create_key(keys / "context.key").public_key()
    known = json.loads((keys / "rooms.jwks").read_text())["keys"]
    (keys / "rooms.jwks").write_text(json.dumps({"keys": [*known, to_jwk(room_issuer("context"), public)]}))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


async def say(room: Room, person: Person, text: str, *, private: bool = False) -> str:
    """A session with one message."""
    request = session_pb2.CreateSessionRequest(
        session_id=ids.uuid(), settings=session_pb2.SessionSettings(private=private)
    )
    await room.sessions.CreateSession(request, metadata=person.metadata)
    message = chat_pb2.NewMessage(
        session_id=request.session_id,
        client_message_id=ids.uuid(),
        parts=[message_pb2.Part(text=text)],
    )
    stub = ChatServiceStub(room.channel)
    async for _ in stub.SendMessage(
        chat_pb2.SendMessageRequest(message=message, follow=True), metadata=person.metadata
    ):
        pass
    return request.session_id


async def listed(room: Room, person: Person) -> set[str]:
    told = await room.sessions.ListSessions(session_pb2.ListSessionsRequest(), metadata=person.metadata)
    return {session.id for session in told.sessions}


async def found(room: Room, person: Person, words: str) -> bool:
    """Whether a search finds a message with these words."""
    request = chat_pb2.SearchMessagesRequest(query=words)
    return bool(
        (await ChatServiceStub(room.channel).SearchMessages(request, metadata=person.metadata)).matches
    )


async def back_up(room: Room, directory: str = "", request_id: str = "") -> operator_pb2.Backup:
    request = operator_pb2.CreateBackupRequest(request_id=request_id or ids.uuid(), directory=directory)
    return (await room.operator.CreateBackup(request)).backup


async def status_of(room: Room) -> operator_pb2.GetStatusResponse:
    return await room.operator.GetStatus(operator_pb2.GetStatusRequest())


async def restore(room: Room, path: Path) -> operator_pb2.RestoreBackupResponse:
    request = operator_pb2.RestoreBackupRequest(request_id=ids.uuid(), directory=str(path))
    return await room.operator.RestoreBackup(request)


@pytest.mark.requirement("OPS-5")
async def test_a_backup_brings_a_state_back_without_what_was_erased_since(
    start: Start, database_place: Place, socket_dir: Path, tmp_path: Path, kept: Path
) -> None:
    async with whole(start, database_place, socket_dir, tmp_path) as room:
        anna = await room.register()
        stays, goes = await say(room, anna, "keep this"), await say(room, anna, "delete this")
        secret = await say(room, anna, "never copy this", private=True)
        made = await back_up(room)
        later = await say(room, anna, "said afterwards")
        await room.sessions.DeleteSession(
            session_pb2.DeleteSessionRequest(session_id=goes), metadata=anna.metadata
        )
        assert made.location.startswith(str(kept))
        assert b"never copy this" not in b"".join(map(str.encode, archive.lines(Path(made.location))))
        status = await room.operator.GetStatus(operator_pb2.GetStatusRequest())
        assert [each.id for each in status.backups] == [made.id]
        request = operator_pb2.RestoreBackupRequest(request_id=ids.uuid(), backup_id=made.id)
        done = await room.operator.RestoreBackup(request)
        assert done.log_epoch != status.log_epoch
        assert done.reapplied_erasures == 1
        again = await room.operator.RestoreBackup(request)
        assert again == done

    async with whole(start, database_place, socket_dir, tmp_path) as room:
        assert await refused(listed(room, anna)) == "TOKEN_INVALID"
        anna = await room.log_in(anna)
        assert await listed(room, anna) == {stays}
        assert not {later, secret, goes} & await listed(room, anna)
        events = chat_pb2.ListEventsRequest(session_id=stays, log_epoch=status.log_epoch, after_sequence=90)
        page = await ChatServiceStub(room.channel).ListEvents(events, metadata=anna.metadata)
        assert page.snapshot.through.log_epoch == done.log_epoch
        assert page.snapshot.messages[0].parts[0].text == "keep this"
        async with asyncio.timeout(20):  # indexed again in the background
            while not await found(room, anna, "keep"):
                pass
        assert not await found(room, anna, "delete")
        before = operator_pb2.RestoreBackupRequest(request_id=ids.uuid(), backup_id=done.previous_state.id)
        await room.operator.RestoreBackup(before)  # and there is a way back

    async with whole(start, database_place, socket_dir, tmp_path) as room:
        anna = await room.log_in(anna)
        assert await listed(room, anna) == {stays, later}


def copied(folder: Path) -> list[Path]:
    """The backups that were made before a migration."""
    return [*folder.glob("context-before-*.backup")]


@pytest.mark.slow
@pytest.mark.requirement("OPS-5")
@pytest.mark.parametrize("database_place", ["postgres"], indirect=True)
async def test_on_postgresql_a_migration_makes_a_backup_first_and_it_can_be_restored(
    start: Start,
    database_place: Place,
    socket_dir: Path,
    tmp_path: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with whole(start, database_place, socket_dir, tmp_path) as room:
        anna = await room.register()
        stays = await say(room, anna, "keep this")
        await say(room, anna, "never copy this", private=True)
    assert copied(kept) == []
    monkeypatch.setattr(copies, "SCHEMA", SCHEMA + 1)  # as if a new version had begun
    async with whole(start, database_place, socket_dir, tmp_path) as room:
        (made,) = copied(kept)
        assert "never copy this" not in "".join(archive.lines(made))
        anna = await room.log_in(anna)
        later = await say(room, anna, "said afterwards")
        assert later in await listed(room, anna)
        await restore(room, made)
    monkeypatch.undo()
    async with whole(start, database_place, socket_dir, tmp_path) as room:
        anna = await room.log_in(anna)
        assert await listed(room, anna) == {stays}


@pytest.mark.requirement("OPS-5")
async def test_a_backup_that_is_not_whole_or_not_ours_changes_nothing(
    start: Start, database_place: Place, socket_dir: Path, tmp_path: Path
) -> None:
    if database_place.schema:
        pytest.skip("the file is the same whatever the engine")
    async with whole(start, database_place, socket_dir, tmp_path) as room:
        anna = await room.register()
        session = await say(room, anna, "keep this")
        made = Path((await back_up(room)).location)
        content = made.read_bytes()  # noqa: ASYNC240 - a small file
        spoilt = {
            "cut": content[:-100],
            "changed": content[:300] + bytes([content[300] ^ 1]) + content[301:],
            "foreign": b"no backup at all",
        }
        for name, bytes_ in spoilt.items():
            path = tmp_path / f"{name}.backup"
            path.write_bytes(bytes_)
            assert await refused(restore(room, path)) == "ARCHIVE_INVALID"
        assert await refused(restore(room, tmp_path / "none")) == "BACKUP_NOT_FOUND"
        assert await listed(room, anna) == {session}


@pytest.mark.requirement("OPS-5")
async def test_backups_lie_outside_the_data_folder_and_are_kept_seven_days(
    start: Start, database_place: Place, socket_dir: Path, tmp_path: Path
) -> None:
    if database_place.schema:
        pytest.skip("where the file lies does not depend on the engine")
    async with whole(start, database_place, socket_dir, tmp_path) as room:
        for wrong in ("relative", str(tmp_path / "data" / "inside")):
            assert await refused(back_up(room, directory=wrong)) == "INVALID_FIELD"
        request_id = ids.uuid()
        made = await back_up(room, request_id=request_id)
        assert await back_up(room, request_id=request_id) == made
        elsewhere = back_up(room, directory=str(tmp_path / "elsewhere"), request_id=request_id)
        assert await refused(elsewhere) == "IDEMPOTENCY_KEY_REUSED"
        path = Path(made.location)
        assert path.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240
        with zipfile.ZipFile(path) as file:
            assert file.namelist()[-1] == "manifest.json"
        room.clock.jump(timedelta(microseconds=KEPT_US))
        async with asyncio.timeout(20):
            while path.exists() or (await status_of(room)).backups:  # noqa: ASYNC240
                await room.clock.advance(timedelta(seconds=ROUND))


@pytest.mark.requirement("OPS-5")
async def test_without_media_svc_there_is_no_backup_that_would_lack_its_files(
    room: Room, tmp_path: Path
) -> None:
    assert await refused(back_up(room, directory=str(tmp_path / "kept"))) == "PEER_UNAVAILABLE"
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.slow
@pytest.mark.requirement("OPS-4", "OPS-5")
async def test_replicas_that_start_at_once_on_an_empty_store_make_its_schema_once(
    postgres_url: str, tmp_path: Path
) -> None:
    async def start(schema: str, after: float) -> None:
        await asyncio.sleep(after)
        async with engines.connect(postgres_url, schema=schema) as database:
            await copies.bring_forward(database, tmp_path, SystemClock(), is_private)

    for attempt in range(6):  # the second one begins at one moment or another of the first one's work
        schema = f"begun{attempt}"
        await asyncio.gather(start(schema, 0), start(schema, attempt * 0.04), start(schema, attempt * 0.06))
    assert os.listdir(tmp_path) == [], "there was nothing to copy"  # noqa: PTH208
