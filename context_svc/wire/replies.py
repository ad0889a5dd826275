"""Answers to what a turn waits for. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import jsonschema

from assistant.chat.v1 import chat_pb2
from assistant.turn.v1 import turn_pb2
from chassis.errors import Violation
from context_svc.turn_rows import Key, TurnState
from context_svc.waiting import Ask, Reply


def reply(request: chat_pb2.RespondToTurnRequest, account_id: str) -> Reply:
    """An answer on its way in."""
    same = chat_pb2.RespondToTurnRequest(session_id=request.session_id, turn_id=request.turn_id)
    if request.HasField("approval"):
        same.approval.CopyFrom(request.approval)
        asked, digest = request.approval.approval_id, request.approval.arguments_sha256
        answer = turn_pb2.PendingAnswer(approval=request.approval)
    else:
        same.input.CopyFrom(request.input)
        asked, digest = request.input.input_id, ""
        answer = turn_pb2.PendingAnswer(input=request.input)
    return Reply(
        key=Key(
            account_id=account_id,
            request_id=request.request_id,
            body_hash=hashlib.sha256(b"respond" + same.SerializeToString(deterministic=True)).digest(),
        ),
        session_id=request.session_id,
        turn_id=request.turn_id,
        ask=Ask.APPROVAL if request.HasField("approval") else Ask.ANSWER,
        id=asked,
        digest=digest,
        answer=answer.SerializeToString(),
        decision=_decision(request),
        faults=_faults(request),
    )


def responded(state: TurnState) -> chat_pb2.RespondToTurnResponse:
    """Where the turn stands."""
    return chat_pb2.RespondToTurnResponse(state=int(state))  # type: ignore[arg-type]


def _decision(request: chat_pb2.RespondToTurnRequest) -> str:
    if request.HasField("approval"):
        name = chat_pb2.ApprovalDecision.Name(request.approval.decision)
        return name.removeprefix("APPROVAL_DECISION_").lower()
    return "declined" if request.input.declined else "answered"


def _faults(request: chat_pb2.RespondToTurnRequest) -> Callable[[str], Sequence[Violation]]:
    """What is wrong with an answer: edited arguments must be an object, a filled form must fit its schema."""
    if request.HasField("approval"):
        edits = request.approval.decision == chat_pb2.APPROVAL_DECISION_EDIT
        name, text = "approval.edited_arguments_json", request.approval.edited_arguments_json
        return lambda _form: _object(name, text)[1] if edits else ()
    if request.input.declined:
        return lambda _form: ()
    return lambda form: _filled("input.content_json", request.input.content_json, form)


def _filled(field: str, text: str, form: str) -> Sequence[Violation]:
    value, found = _object(field, text)
    if found or not form:
        return found
    try:
        validator = jsonschema.Draft202012Validator(json.loads(form))
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except (ValueError, jsonschema.exceptions.SchemaError):  # a broken form takes any object
        return ()
    if error is None:
        return ()
    where = ".".join((field, *map(str, error.absolute_path)))
    return (Violation(field=where, description=error.message[:500], rule="form"),)


def _object(field: str, text: str) -> tuple[object, Sequence[Violation]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value, ()
    return value, (Violation(field=field, description="must be a JSON object", rule="json.object"),)
