"""An account that moves: exported as an archive, imported elsewhere with equal content, whatever happens on the way."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value

from assistant.context.v1 import context_pb2
from assistant.identity.v1 import identity_pb2
from assistant.message.v1 import message_pb2
from chassis import ids
from tests.interaction.accounts.house import Mesh, Person
from tests.interaction.accounts.test_erasure import reason


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
