"""A failure is declared once: its gRPC code, its reason and its public words stand together in one class.

::

    ServiceError
    ├── InvalidRequest        MalformedMessage
    ├── TokenMissing          TokenInvalid      TokenExpired     TokenRevoked
    ├── ScopeMissing          GrantInvalid
    ├── CallerNotAllowed      DeadlineExceeded  NotServed        Overloaded
    ├── Draining              FeedLost          StoreUnavailable
    ├── HealthNameUnknown
    └── Internal

A room adds its own below these. The boundary turns each into a ``google.rpc.Status``; nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import grpc


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One field that broke one rule. `field` is a path (``parts[2].text``), `rule` the rule's id."""

    field: str
    description: str
    rule: str


class ServiceError(Exception):
    """A failure a caller may be told about.

    `message` is public and constant. `internal` is only logged, so it may name what went wrong inside.
    `metadata` is public and must hold no content; `quota` names the exhausted limit.
    """

    code: ClassVar[grpc.StatusCode]
    reason: ClassVar[str]
    message: ClassVar[str]
    default_retry_after: ClassVar[timedelta | None] = None

    def __init__(
        self,
        internal: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        quota: str | None = None,
    ) -> None:
        super().__init__(internal or self.message)
        self.internal = internal
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after or self.default_retry_after
        self.quota = quota


class Told(Exception):
    """A failure whose caller was told already what it may learn; it carries nothing else."""


class InvalidRequest(ServiceError):
    """A field of the request breaks a rule of the contract; `violations` say which."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELD"
    message = "The request has an invalid field."


class MalformedMessage(ServiceError):
    """The bytes of a request are not the message they should be."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "MALFORMED_MESSAGE"
    message = "The request could not be read."


class TokenMissing(ServiceError):
    """The call needs a token and has none, or more than one."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_MISSING"
    message = "Sign in first."


class TokenInvalid(ServiceError):
    """The token is not one of ours, or not meant for this call."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_INVALID"
    message = "The token is not valid."


class TokenExpired(ServiceError):
    """The token was valid; refreshing it helps."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_EXPIRED"
    message = "The token has expired."


class TokenRevoked(ServiceError):
    """The sign-in or the account behind the token was ended."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_REVOKED"
    message = "This sign-in has ended. Sign in again."


class CallerNotAllowed(ServiceError):
    """The caller is known and may not make this call."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "CALLER_NOT_ALLOWED"
    message = "This caller may not make this call."


class ScopeMissing(ServiceError):
    """The token is limited to scopes, and what the call needs is not among them. Metadata `scope` names it."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "SCOPE_MISSING"
    message = "The token may not make this call."


class GrantInvalid(ServiceError):
    """A room acts for a person without leave. Metadata `grant` says: missing, expired, or invalid."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "GRANT_INVALID"
    message = "The call has no leave to act for this person."


class DeadlineExceeded(ServiceError):
    """The call's time is over; its effect is unknown to the caller, so ask again with the same id."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"
    message = "The call took too long."


class NotServed(ServiceError):
    """The method is unknown here, or declared in the contract and not served yet."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "NOT_SERVED"
    message = "This server does not serve this call."


class Overloaded(ServiceError):
    """More calls at once than this server takes."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    message = "The server is busy. Try again soon."
    default_retry_after = timedelta(seconds=1)


class Draining(ServiceError):
    """This process is about to end; another one, or this one restarted, will answer."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"
    message = "The server is restarting. Try again."
    default_retry_after = timedelta(seconds=1)


class FeedLost(ServiceError):
    """This room has not heard of revoked sign-ins for too long, so it trusts no user token."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "REVOCATION_FEED_LOST"
    message = "Sign-ins cannot be checked at the moment. Try again."
    default_retry_after = timedelta(seconds=2)


class StoreUnavailable(ServiceError):
    """The store did not take the work. Whether a write was kept is unknown: repeat it with the same id."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"
    message = "The store is not available. Try again."
    default_retry_after = timedelta(seconds=1)


class HealthNameUnknown(ServiceError):
    """A health check asked for a name this process does not report on."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "HEALTH_NAME_UNKNOWN"
    message = "No such service."


class Internal(ServiceError):
    """A fault of ours. The request id finds it in the log; the text of the fault never leaves the process."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"
    message = "Internal error."
