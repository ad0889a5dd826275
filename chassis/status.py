"""Failures on the wire: `ServiceError` to ``google.rpc.Status``, and back for the one who asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from chassis.errors import ServiceError, Violation

DETAILS = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def to_status(error: ServiceError, *, domain: str, request_id: str) -> Status:
    """The public form of a failure: its message, ErrorInfo, and whatever else the caller can act on."""
    details: list[Message] = [
        ErrorInfo(reason=error.reason, domain=domain, metadata={**error.metadata, "request_id": request_id}),
        RequestInfo(request_id=request_id),
    ]
    if error.violations:
        details.append(BadRequest(field_violations=[_field(violation) for violation in error.violations]))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(error.retry_after)
        details.append(RetryInfo(retry_delay=delay))
    if error.quota is not None:
        details.append(
            QuotaFailure(violations=[QuotaFailure.Violation(subject=error.quota, description=error.message)])
        )
    return Status(
        code=error.code.value[0], message=error.message, details=[_packed(each) for each in details]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What a caller learns from a failed call. Decide by `reason`, never by `message`."""

    code: grpc.StatusCode
    reason: str | None
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: timedelta | None = None

    @property
    def request_id(self) -> str | None:
        """The id under which the other side logged the call."""
        return self.metadata.get("request_id")


def from_status(status: Status) -> Failure:
    """Read a status that came in-band or from a call."""
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    return Failure(
        code=_CODES.get(status.code, grpc.StatusCode.UNKNOWN),
        reason=info.reason or None,
        message=status.message,
        metadata=dict(info.metadata),
        violations=tuple(
            Violation(field=each.field, description=each.description, rule=each.reason)
            for each in bad.field_violations
        ),
        retry_after=retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> Failure:
    """Read a failed call. Without our details (the transport broke, a proxy answered) `reason` is None."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            try:
                return from_status(Status.FromString(value))
            except DecodeError:
                break
    return Failure(code=error.code(), reason=None, message=error.details() or "")


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """The catalogued reason of a failed call, or None."""
    return from_rpc_error(error).reason


def _field(violation: Violation) -> BadRequest.FieldViolation:
    return BadRequest.FieldViolation(
        field=violation.field,
        description=violation.description,
        reason=violation.rule.upper().replace(".", "_"),  # the form AIP-193 asks for: STRING_MIN_LEN
    )


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
