"""What a person can do beside saying something, on the wire. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace

import jsonschema
from google.protobuf.message import Message as ProtoMessage

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.message.v1 import message_pb2
from chassis import ids
from chassis.call import User
from chassis.errors import InvalidRequest, ScopeMissing, ServiceError, Violation
from chassis.status import to_status
from chassis.validation import violations
from context_svc.batches import Letter, Outcome, Skipped
from context_svc.branches import Again, Imported, ImportMode, OfflineAnswer
from context_svc.conversations import APPROVE
from context_svc.errors import ArgumentsInvalid
from context_svc.executions import Execution
from context_svc.journal import Entry
from context_svc.turn_rows import Key
from context_svc.turns import Accepted, Submission
from context_svc.wire.chat import (
    DOMAIN,
    PREVIEW,
    checked_submission,
    new_message_violations,
    submission,
    text_of,
)

_PLACE = re.compile(r"messages\[(\d+)\]\.?")


def edit(request: chat_pb2.EditMessageRequest, account_id: str) -> Submission:
    """A message said differently. Raises InvalidRequest."""
    new = request.replacement
    if new.session_id != request.session_id:
        raise InvalidRequest(
            violations=[
                Violation(
                    field="replacement.session_id",
                    description="must be that of the message",
                    rule="session.same",
                )
            ]
        )
    new.ClearField("parent_id")
    said = checked_submission(new, account_id)
    beside = hashlib.sha256(b"edit" + request.message_id.encode() + said.body_hash).digest()
    return replace(said, beside=request.message_id, body_hash=beside)


def again(request: chat_pb2.RegenerateTurnRequest, account_id: str) -> Again:
    """A wish for another answer."""
    same = chat_pb2.RegenerateTurnRequest(session_id=request.session_id, turn_id=request.turn_id)
    return Again(
        key=_key(account_id, request.request_id, "regenerate", same),
        session_id=request.session_id,
        turn_id=request.turn_id,
        options=request.options.SerializeToString(deterministic=True),
    )


def offline_answer(request: chat_pb2.ImportAnswerRequest, account_id: str) -> OfflineAnswer:
    """A device's answer on its way in. Raises InvalidRequest."""
    found = [
        Violation(field=f"answer[{place}]", description="must be text", rule="part.kind")
        for place, part in enumerate(request.answer)
        if part.WhichOneof("content") != "text"
    ]
    if found:
        raise InvalidRequest(violations=found)
    said = checked_submission(request.message, account_id)
    parts = [message_pb2.Part(text=part.text, trust=message_pb2.TRUST_UNTRUSTED) for part in request.answer]
    body = message_pb2.Message(
        parts=parts,
        imported_model=request.model,
        placement=request.message.placement,
        finish_reason=message_pb2.FINISH_REASON_STOP,
    )
    serialised = body.SerializeToString(deterministic=True)
    key = hashlib.sha256(b"import" + bytes([request.mode]) + said.body_hash + serialised).digest()
    return OfflineAnswer(
        submission=replace(said, body_hash=key),
        answer_id=ids.uuid(),
        body=serialised,
        preview=text_of(parts)[:PREVIEW],
        mode=ImportMode(request.mode),
    )


def execution(request: agent_pb2.ExecuteActionRequest, user: User) -> Execution:
    """An action to run. Raises InvalidRequest and ScopeMissing."""
    if request.approved and APPROVE not in user.scopes:
        raise ScopeMissing(metadata={"scope": APPROVE})
    arguments = request.arguments_json or "{}"
    if not _is_object(arguments):
        violation = Violation(field="arguments_json", description="must be a JSON object", rule="json.object")
        raise InvalidRequest(violations=[violation])
    same = agent_pb2.ExecuteActionRequest(
        session_id=request.session_id,
        action=request.action,
        arguments_json=arguments,
        approved=request.approved,
    )
    call = message_pb2.ToolCallPart(
        call_id=request.request_id, action=request.action, arguments_json=arguments
    )
    return Execution(
        key=_key(user.account, request.request_id, "execute", same),
        session_id=request.session_id,
        action=call.SerializeToString(),
        approved=request.approved,
    )


def check(given: Execution, action: agent_pb2.Action) -> None:
    """Raises ArgumentsInvalid for arguments that do not fit the action's schema."""
    arguments = json.loads(message_pb2.ToolCallPart.FromString(given.action).arguments_json)
    validator = jsonschema.Draft202012Validator(json.loads(action.parameters_json_schema or "{}"))
    error = jsonschema.exceptions.best_match(validator.iter_errors(arguments))
    if error is not None:
        where = ".".join(("arguments_json", *map(str, error.absolute_path)))
        fault = Violation(field=where, description=error.message[:500], rule="arguments.schema")
        raise ArgumentsInvalid(violations=[fault])


def letters(request: chat_pb2.SendMessageBatchRequest, account_id: str) -> Sequence[Letter]:
    """The messages of a batch, each with its own faults. Raises InvalidRequest for those of the batch itself."""
    faults: dict[int, list[Violation]] = {}
    whole: list[Violation] = []
    for found in violations(request):
        place = _PLACE.match(found.field)
        if place is None:
            whole.append(found)
        else:
            field = f"message.{found.field[place.end() :]}"
            faults.setdefault(int(place[1]), []).append(replace(found, field=field))
    if whole:
        raise InvalidRequest(violations=whole)
    return [
        _letter(message, account_id, faults.get(place, [])) for place, message in enumerate(request.messages)
    ]


def outcomes(
    sent: Sequence[Letter], done: Sequence[Outcome], request_id: str
) -> chat_pb2.SendMessageBatchResponse:
    """What became of each."""
    found = [
        _outcome(letter.message_id, outcome, request_id) for letter, outcome in zip(sent, done, strict=True)
    ]
    return chat_pb2.SendMessageBatchResponse(outcomes=found)


def edited(accepted: Accepted) -> chat_pb2.EditMessageResponse:
    """The new message."""
    return chat_pb2.EditMessageResponse(accepted=_event(accepted.entry))


def regenerated(accepted: Accepted) -> chat_pb2.RegenerateTurnResponse:
    """The new turn."""
    return chat_pb2.RegenerateTurnResponse(accepted=_event(accepted.entry))


def imported(value: Imported) -> chat_pb2.ImportAnswerResponse:
    """The stored answer, and the turn that makes another one."""
    accepted = _event(value.accepted.entry) if value.accepted.turn_id else None
    return chat_pb2.ImportAnswerResponse(imported=_event(value.entry), accepted=accepted)


def cleared(through: int) -> chat_pb2.ClearMessagesResponse:
    """The empty session."""
    return chat_pb2.ClearMessagesResponse(through_sequence=through)


def _letter(message: chat_pb2.NewMessage, account_id: str, found: list[Violation]) -> Letter:
    found = found or list(new_message_violations(message))
    return Letter(
        message_id=message.client_message_id,
        session_id=message.session_id,
        content=InvalidRequest(violations=found) if found else submission(message, account_id),
    )


def _outcome(message_id: str, outcome: Outcome, request_id: str) -> chat_pb2.SendOutcome:
    match outcome:
        case Skipped():
            return chat_pb2.SendOutcome(client_message_id=message_id, skipped=True)
        case ServiceError():
            status = to_status(outcome, domain=DOMAIN, request_id=request_id)
            return chat_pb2.SendOutcome(client_message_id=message_id, refused=status)
        case _:
            return chat_pb2.SendOutcome(client_message_id=message_id, accepted=_event(outcome))


def _event(entry: Entry) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent.FromString(entry.data)


def _key(account_id: str, request_id: str, name: str, same: ProtoMessage) -> Key:
    digest = hashlib.sha256(name.encode() + same.SerializeToString(deterministic=True)).digest()
    return Key(account_id=account_id, request_id=request_id, body_hash=digest)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
