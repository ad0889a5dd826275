"""What actions leave behind, and the calls of this room's own actions, on the wire. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.turn.v1 import turn_pb2
from chassis.errors import ServiceError
from context_svc.errors import ArgumentsInvalid
from context_svc.hosting import Arguments, Told
from context_svc.leavings import Left, Task, Update
from context_svc.run_frames import HostCalled
from context_svc.wire.times import duration_of

MOST_UPDATES, MOST_TASKS = 20, 4
LONGEST_DELAY_US = 30 * 86_400_000_000


def left(message: turn_pb2.LeftBehind) -> Left | None:
    """What an action left behind; None when nothing. What is no JSON, or too much, is left out."""
    found = Left(
        updates=tuple(map(_update, filter(_readable, message.context_updates[:MOST_UPDATES]))),
        tasks=tuple(map(_task, message.background_tasks[:MOST_TASKS])),
    )
    return found if found.updates or found.tasks else None


class HostWords:
    """The part of the codec for actions of this room, and for what actions leave behind."""

    def arguments(self, call: HostCalled) -> Arguments:
        """The arguments of a call. Raises ArgumentsInvalid."""
        try:
            found = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise ArgumentsInvalid.of("arguments_json", "must be a JSON object") from error
        if not isinstance(found, dict):
            raise ArgumentsInvalid.of("arguments_json", "must be a JSON object")
        return found

    def host_done(self, call: HostCalled, told: Told, seconds: float) -> bytes:
        """A serialised ToolFinished of an action that did what was asked."""
        return chat_pb2.ToolFinished(
            call_id=call.id,
            action=call.action,
            outcome=chat_pb2.TOOL_OUTCOME_DONE,
            result=told.content,
            context_keys=told.context_keys,
            job_ids=told.job_ids,
            duration=duration_of(seconds),
        ).SerializeToString()

    def host_failed(self, call: HostCalled, error: ServiceError, seconds: float) -> bytes:
        """A serialised ToolFinished of an action that failed."""
        named = error.violations[0] if error.violations else None
        said = f"{error.message} {named.field} {named.description}." if named else error.message
        failure = chat_pb2.ToolError(
            reason=error_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}"),
            message=said,
            field=named.field if named else "",
        )
        return chat_pb2.ToolFinished(
            call_id=call.id,
            action=call.action,
            outcome=chat_pb2.TOOL_OUTCOME_FAILED,
            error=failure,
            result=f"Error {error.reason}: {said}",
            duration=duration_of(seconds),
        ).SerializeToString()

    def with_left(self, finished: bytes, context_keys: Iterable[str], job_ids: Iterable[str]) -> bytes:
        """A serialised ToolFinished that names what it left behind."""
        told = chat_pb2.ToolFinished(context_keys=context_keys, job_ids=job_ids)
        return finished + told.SerializeToString()


def _readable(message: turn_pb2.ContextUpdate) -> bool:
    try:
        json.loads(message.value_json)
    except (ValueError, RecursionError):
        return False
    return True


def _update(message: turn_pb2.ContextUpdate) -> Update:
    value = json.loads(message.value_json)
    return Update(
        key=message.key,
        value=json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        ttl_us=message.ttl.ToMicroseconds() if message.HasField("ttl") else None,
        user_scope=message.user_scope,
    )


def _task(message: turn_pb2.BackgroundTask) -> Task:
    return Task(
        action=message.action,
        arguments=message.arguments_json or "{}",
        title=message.title,
        delay_us=min(LONGEST_DELAY_US, max(0, message.delay.ToMicroseconds())),
        tries=message.tries,
    )
