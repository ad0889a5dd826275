"""What is private is in no backup: not its words, not its ids, not the files that nothing else holds."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Value

from assistant.context.v1 import context_pb2
from assistant.identity.v1 import identity_pb2
from assistant.message.v1 import message_pb2
from assistant.operator.v1 import operator_pb2
from assistant.session.v1 import session_pb2
from chassis import dump, ids
from chassis.clock import SystemClock
from chassis.database import Statement, Unit
from chassis.sqlite import connect
from chassis.testing import socket_directory
from context_svc import archive
from context_svc.copies import copy_before_migrating
from context_svc.schema import MIGRATIONS
from context_svc.wire.session import is_private
from tests.interaction.accounts.conftest import new_database
from tests.interaction.accounts.house import House, Mesh, Person
from tests.interaction.accounts.test_erasure import CANARY, found
from tests.interaction.accounts.test_moving import applied, export, send

pytestmark = pytest.mark.requirement("CHAT-14", "OPS-5")


@pytest.fixture
async def far(request: pytest.FixtureRequest, house: House, tmp_path: Path) -> AsyncIterator[House]:
    """Another house on the same engine."""
    url = await new_database(request.getfixturevalue("postgres_url")) if house.database else ""
    with socket_directory() as sockets:
        yield House(folder=tmp_path / "elsewhere", sockets=sockets, database=url)


async def private_session(person: Person) -> str:
    request = session_pb2.CreateSessionRequest(
        session_id=ids.uuid(),
        title=f"{CANARY}-title",
        settings=session_pb2.SessionSettings(private=True),
    )
    await person.sessions.CreateSession(request)
    return request.session_id


async def file(person: Person, words: str) -> message_pb2.Part:
    """A file, as a message names it."""
    media = await person.upload(words.encode() * 50, f"{words}.txt")
    reference = message_pb2.MediaReference(media_id=media.id)
    return message_pb2.Part(document=message_pb2.DocumentPart(media=reference))


async def fill(person: Person) -> tuple[str, str]:
    """An ordinary session and a private one, each with words and files; one file in both, one in none."""
    shared, open_ = await file(person, "shared"), await person.session("open")
    await person.say(open_, "kept words", shared, await file(person, "open-file"))
    await person.upload(b"of no message " * 50, "library.txt")
    hidden = await private_session(person)
    await person.say(hidden, f"{CANARY}-words", await file(person, f"{CANARY}-file"), shared)
    write = context_pb2.ContextItemWrite(key="note", value=Value(string_value=f"{CANARY}-item"))
    await person.context.UpdateContext(
        context_pb2.UpdateContextRequest(request_id=ids.uuid(), session_id=hidden, items=[write])
    )
    return open_, hidden


async def back_up(mesh: Mesh) -> Path:
    made = await mesh.operator.CreateBackup(operator_pb2.CreateBackupRequest(request_id=ids.uuid()))
    return Path(made.backup.location)


def content(backup: Path) -> bytes:
    """What a backup holds, and what its rows spell as base64."""
    values = [value for _, row in dump.rows(archive.lines(backup)) for value in row.values()]
    spelled = b" ".join(value for value in values if isinstance(value, bytes))
    return members(backup) + spelled


def members(file: Path | io.BytesIO) -> bytes:
    with zipfile.ZipFile(file) as whole:
        return b"".join(whole.read(name) for name in whole.namelist())


async def restore(mesh: Mesh, backup: Path) -> None:
    request = operator_pb2.RestoreBackupRequest(request_id=ids.uuid(), directory=str(backup))
    await mesh.operator.RestoreBackup(request)


async def test_a_restored_backup_has_no_trace_of_a_private_session(house: House, far: House) -> None:
    async with house.running() as mesh:
        person = await mesh.register("anna@example.org")
        open_, hidden = await fill(person)
        backup = await back_up(mesh)
    told = content(backup)
    assert b"kept words" in told
    assert CANARY.encode() not in told
    assert hidden.encode() not in told
    async with far.running() as mesh:
        await restore(mesh, backup)
    assert await far.column("session", "id") == [open_]
    assert await far.column("account", "session_count") == [1]
    assert await found(far) == []


async def test_a_backup_holds_the_files_that_more_than_private_sessions_hold(
    house: House, far: House
) -> None:
    """The files of an account that moved: each is held by what names it."""
    async with house.running() as mesh:
        person = await mesh.register("anna@example.org")
        await fill(person)
        moved = await export(person)
    assert CANARY.encode() in members(io.BytesIO(moved))
    async with far.running() as mesh:
        person = await mesh.register("anna@example.org")
        done = await applied(person, (await send(person, moved)).id)
        assert done.state == identity_pb2.IMPORT_STATE_FINISHED
        assert len(await found(far)) >= 2
        told = content(await back_up(mesh))
    assert CANARY.encode() not in told
    for held in (b"shared", b"open-file", b"of no message "):
        assert held * 50 in told


async def test_an_archive_on_its_way_in_is_in_no_backup(mesh: Mesh) -> None:
    """It may hold private sessions."""
    person = await mesh.register("anna@example.org")
    header = identity_pb2.ImportHeader(request_id=ids.uuid(), size=10_000, sha256="0" * 64)
    begun = await person.identity.CreateImport(identity_pb2.CreateImportRequest(header=header))
    chunk = f"{CANARY}-chunk ".encode() * 20
    await person.identity.WriteImport(
        identity_pb2.WriteImportRequest(import_id=begun.account_import.id, offset=0, chunk=chunk)
    )
    assert await found(mesh.house)
    assert CANARY.encode() not in content(await back_up(mesh))


async def test_the_copy_before_a_migration_has_no_private_session(tmp_path: Path) -> None:
    before = [each for each in MIGRATIONS if each.version < max(each.version for each in MIGRATIONS)]
    private = session_pb2.SessionSettings(private=True).SerializeToString()

    def filled() -> Unit[None]:
        yield Statement(
            "INSERT INTO account (id, email, email_key, display_name, password_hash, version, create_us,"
            " update_us, session_count) VALUES ('a', 'a', 'a', 'a', '', 1, 0, 0, 2)"
        )
        for name, settings in (("open", b""), ("hidden", private)):
            yield Statement(
                "INSERT INTO session (id, account_id, title, title_source, state, settings, version, create_us,"
                " update_us, device_id, shape) VALUES (:id, 'a', :title, 0, 1, :settings, 1, 0, 0, '', '')",
                {"id": name, "title": f"{CANARY}-{name}", "settings": settings},
            )

    async with connect(tmp_path / "context.db") as database:
        await database.migrate(before)
        await database.write("a", filled)
        copied = await copy_before_migrating(database, tmp_path / "copies", SystemClock(), is_private)
        assert copied is not None
    kept, copy = (path.read_bytes() for path in (tmp_path / "context.db", copied))
    assert f"{CANARY}-hidden".encode() in kept
    assert f"{CANARY}-hidden".encode() not in copy
    assert f"{CANARY}-open".encode() in copy
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]
