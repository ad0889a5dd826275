"""Somebody else's things: whatever of Anna's a call names, Bob hears what he would hear of nothing at all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2, context_pb2_grpc
from assistant.identity.v1 import identity_pb2
from assistant.media.v1 import media_pb2, media_pb2_grpc
from assistant.message.v1 import message_pb2
from assistant.reminder.v1 import reminder_pb2, reminder_pb2_grpc
from assistant.session.v1 import session_pb2
from chassis import ids
from chassis.access import Audience
from tests.interaction.trust.callers import bearer
from tests.interaction.trust.contract import Rpc, rpcs
from tests.interaction.trust.doors import Native, Outcome
from tests.interaction.trust.rooms import Mesh, Person

pytestmark = pytest.mark.requirement("ID-9")

WORD = "zebra-crossing"


async def belongings(mesh: Mesh, anna: Person) -> dict[str, Any]:
    """One of each thing that Anna can have, by the name of the field that names it; each holds the word."""
    session = await mesh.session(anna, WORD)
    events = await mesh.say(anna, session, f"say {WORD}")
    accepted = next(event.turn_accepted for event in events if event.HasField("turn_accepted"))
    media = await mesh.upload(anna, WORD.encode(), f"{WORD}.txt")
    files: Any = media_pb2_grpc.MediaServiceStub(mesh.channels["media"])
    header = media_pb2.UploadHeader(request_id=ids.uuid(), size=5, sha256="0" * 64, file_name=WORD)
    begun = await files.CreateUpload(media_pb2.CreateUploadRequest(header=header), metadata=anna.metadata)
    token = await mesh.accounts.CreateApiToken(
        identity_pb2.CreateApiTokenRequest(
            request_id=ids.uuid(), name=WORD, scopes=[identity_pb2.TOKEN_SCOPE_READ]
        ),
        metadata=anna.metadata,
    )
    known: Any = context_pb2_grpc.ContextServiceStub(mesh.channels["context"])
    await known.UpdateContext(
        context_pb2.UpdateContextRequest(session_id=session, request_id=ids.uuid(), items=[item(WORD)]),
        metadata=anna.metadata,
    )
    reminders: Any = reminder_pb2_grpc.ReminderServiceStub(mesh.channels["context"])
    due = Timestamp()
    due.FromMicroseconds(mesh.clock.now_us() + 3_600_000_000)
    kept = await reminders.CreateReminder(
        reminder_pb2.CreateReminderRequest(request_id=ids.uuid(), text=WORD, due_time=due),
        metadata=anna.metadata,
    )
    return {
        "reminder_id": kept.reminder.id,
        "due_time": due,
        "session_id": session,
        "turn_id": events[-1].turn_id,
        "message_id": accepted.message.id,
        "media_id": media,
        "upload_id": begun.upload.id,
        "device_id": anna.device_id,
        "api_token_id": token.api_token.id,
    }


def asked(rpc: Rpc, named: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request that names Anna's things in every place where things can be named."""
    session = named["session_id"]
    message = chat_pb2.NewMessage(
        session_id=session, client_message_id=ids.uuid(), parts=[message_pb2.Part(text="let me in")]
    )
    own: dict[str, dict[str, Any]] = {
        "UpdateSession": {
            "patch": session_pb2.SessionPatch(title="mine"),
            "update_mask": FieldMask(paths=["title"]),
        },
        "Chat": {"message": message},
        "SendMessage": {"message": message},
        "SubscribeEvents": {"cursors": [session_pb2.SessionCursor(session_id=session)]},
        "AckEvents": {"cursors": [session_pb2.SessionCursor(session_id=session, sequence=1)]},
        "UpdateContext": {"items": [item("mine")]},
        "UpdateDevice": {
            "device": identity_pb2.Device(id=named.get("device_id", ""), name="mine"),
            "update_mask": FieldMask(paths=["name"]),
        },
        "SendMessageBatch": {"messages": [message]},
        "EditMessage": {"replacement": message},
        "ImportAnswer": {
            "message": message,
            "answer": [message_pb2.Part(text="mine")],
            "model": "m",
            "mode": chat_pb2.IMPORT_MODE_KEEP,
        },
        "RespondToTurn": {
            "approval": chat_pb2.ApprovalAnswer(
                approval_id=named.get("turn_id", ""),
                decision=chat_pb2.APPROVAL_DECISION_APPROVE,
                arguments_sha256="0" * 64,
            )
        },
        "WriteImport": {"import_id": named.get("turn_id", "")},
        "GetImport": {"import_id": named.get("turn_id", "")},
        "DeleteAccount": {"password": "somebody's"},
        "ExecuteAction": {"action": "calculate", "arguments_json": '{"expression":"1+1"}'},
        "SearchMessages": {"query": WORD},
        "CreateReminder": {"text": "mine", "due_time": named.get("due_time")},
        "RateMessage": {"rating": message_pb2.Rating(verdict=message_pb2.VERDICT_UP)},
        "ResolveSuggestion": {"suggestion_id": named.get("turn_id", ""), "resolution": 2},
        "CancelJob": {"job_id": named["turn_id"]},
    }
    common = {"request_id": ids.uuid(), "chunk": b"x", "page_size": 50, "keys": ["animal"]}
    named = {name: value for name, value in named.items() if name != "due_time"}
    return {**named, **common, **own.get(str(rpc), {})}


def item(value: str) -> context_pb2.ContextItemWrite:
    return context_pb2.ContextItemWrite(key="animal", value=Value(string_value=value))


LISTS = {
    "ListReminders",
    "ListSuggestions",
    "ListSessions",
    "ListCapabilities",
    "ListJobs",
    "ListDevices",
    "ListApiTokens",
    "ListMedia",
}
OF_ONESELF = {
    "UpdatePreferences",
    "ExportAccount",
    "GetCurrentUser",
    "UpdateCurrentUser",
    "ChangePassword",
    "CreateApiToken",
    "ListModels",
    "GetModel",
}
MAKES = {
    "CreateSession": "IDEMPOTENCY_KEY_REUSED",
    "CreateUpload": "INVALID_FIELD",
    "UploadMedia": "FRAME_UNEXPECTED",
    "CreateImport": "INVALID_FIELD",
    "ImportAccount": "FRAME_UNEXPECTED",
    "DeleteAccount": "CREDENTIALS_WRONG",
}


async def test_what_is_named_of_somebody_else_does_not_exist(mesh: Mesh) -> None:
    anna, bob = await mesh.register(), await mesh.register("bob@example.org")
    things = await belongings(mesh, anna)
    headers = bearer(bob.tokens.access_token)
    heard: dict[str, Outcome] = {}
    for rpc in rpcs():
        if rpc.policy.served and rpc.policy.audience is Audience.USER:
            request = rpc.request(**asked(rpc, things))
            heard[str(rpc)] = await Native(mesh.channels[rpc.room]).ask(rpc, request, headers, refused=True)
    assert {name for name, outcome in heard.items() if WORD.encode() in outcome.body} == set()
    told = {name: outcome.reason or in_band(outcome) for name, outcome in heard.items()}
    names = {name: reason for name, reason in told.items() if name not in LISTS | OF_ONESELF | MAKES.keys()}
    assert {name: reason for name, reason in names.items() if not reason.endswith("_NOT_FOUND")} == {}
    assert {name: told[name] for name in MAKES} == MAKES
    assert len(names) >= 20
    untouched = await mesh.say(anna, things["session_id"], "still mine")
    assert untouched[-1].HasField("turn_finished")


def in_band(outcome: Outcome) -> str:
    """The reason of a refusal inside a stream."""
    found = re.search(rb"[A-Z]+_NOT_FOUND", outcome.body)
    return found.group().decode() if found else ""


async def test_every_thing_that_a_request_can_name_is_tried(mesh: Mesh) -> None:
    """A field that names a thing of a person and is not filled above would leave a hole in the table."""
    filled = {
        "session_id", "turn_id", "message_id", "media_id", "upload_id", "device_id", "api_token_id", "job_id",
        "reminder_id", "request_id", "client_message_id", "leaf_id", "suggestion_id", "import_id",
    }  # fmt: skip
    named = {
        field.name
        for rpc in rpcs()
        if rpc.policy.served and rpc.policy.audience is Audience.USER
        for field in rpc.request().DESCRIPTOR.fields
        if field.name.endswith("_id")
    }
    assert named <= filled


@pytest.mark.requirement("SES-1")
async def test_an_ended_session_takes_nothing_more_and_shows_what_it_has(mesh: Mesh) -> None:
    anna = await mesh.register()
    session = await mesh.session(anna)
    await mesh.say(anna, session, "hello")
    await mesh.sessions.EndSession(session_pb2.EndSessionRequest(session_id=session), metadata=anna.metadata)
    headers = bearer(anna.tokens.access_token)
    expected = {
        "SendMessage": "SESSION_ENDED",
        "Chat": "SESSION_ENDED",
        "ResumeSession": "SESSION_ENDED",
        "GetSession": "",
        "ListMessages": "",
        "ListEvents": "",
    }
    heard = {}
    for rpc in rpcs():
        if str(rpc) in expected:
            fields = asked(rpc, {"session_id": session, "turn_id": ""})
            door = Native(mesh.channels[rpc.room])
            outcome = await door.ask(rpc, rpc.request(**fields), headers, refused=True)
            ended = b"SESSION_ENDED" in outcome.body
            heard[str(rpc)] = "SESSION_ENDED" if ended else outcome.reason
    assert heard == expected
