"""The failures of orchestrator_svc, each declared once.

::

    ServiceError
    ├── FrameUnexpected
    └── TurnError           ends a turn in-band, as TurnFailed
        ├── WindowTooLong
        ├── UnknownModel
        └── PeerFailed      carries the reason that the other room gave
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from grpc import StatusCode as Code

from chassis.errors import ServiceError


class Reason(StrEnum):
    """Reasons that this room gives in-band; each equals a value of assistant.error.v1.ErrorReason."""

    PARTIAL = "PARTIAL"
    STEP_LIMIT = "STEP_LIMIT"
    CALL_LIMIT = "CALL_LIMIT"
    TOOL_TIME_LIMIT = "TOOL_TIME_LIMIT"
    TOKEN_LIMIT = "TOKEN_LIMIT"  # noqa: S105 - a reason, not a secret
    COST_LIMIT = "COST_LIMIT"
    TURN_TIMEOUT = "TURN_TIMEOUT"
    EFFECT_IN_DOUBT = "EFFECT_IN_DOUBT"
    FROZEN = "FROZEN"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    PEER_UNAVAILABLE = "PEER_UNAVAILABLE"
    PROVIDER_FAILED = "PROVIDER_FAILED"
    PROVIDER_REFUSED = "PROVIDER_REFUSED"
    PROVIDER_TIMEOUT = "PROVIDER_TIMEOUT"
    PROVIDER_GARBAGE = "PROVIDER_GARBAGE"
    PROVIDER_LIMITED = "PROVIDER_LIMITED"
    ENGINE_CRASHED = "ENGINE_CRASHED"
    APPROVAL_MISMATCH = "APPROVAL_MISMATCH"
    ACTION_NOT_FOUND = "ACTION_NOT_FOUND"
    ARGUMENTS_INVALID = "ARGUMENTS_INVALID"
    ACTION_TIMEOUT = "ACTION_TIMEOUT"
    ACTION_FAILED = "ACTION_FAILED"
    ACTION_NOT_CONFIGURED = "ACTION_NOT_CONFIGURED"
    ACTION_DENIED = "ACTION_DENIED"
    ACTION_FORBIDDEN = "ACTION_FORBIDDEN"
    ACTION_CANCELLED = "ACTION_CANCELLED"
    ACTION_NOT_OFFERED = "ACTION_NOT_OFFERED"
    RESULT_TOO_LARGE = "RESULT_TOO_LARGE"


BROKE_OFF = frozenset(
    {
        Reason.PROVIDER_FAILED,
        Reason.PROVIDER_TIMEOUT,
        Reason.PROVIDER_GARBAGE,
        Reason.ENGINE_CRASHED,
        Reason.PEER_UNAVAILABLE,
    }
)
"""Reasons of an answer that broke off: what was said before stands."""


class FrameUnexpected(ServiceError):
    """The frame makes no sense at this point of the stream."""

    code = Code.FAILED_PRECONDITION
    reason = "FRAME_UNEXPECTED"
    message = "The stream must begin with `start`, sent once."


class TurnError(Exception):
    """Ends the turn. `message` is for the person; it holds nothing private or internal."""

    reason: str
    message: ClassVar[str]
    retryable: bool = False

    def __init__(self, internal: str = "") -> None:
        super().__init__(internal or self.message)


class WindowTooLong(TurnError):
    """The newest message alone is longer than the model reads."""

    reason = Reason.CONTEXT_TOO_LONG
    message = "This message is longer than the model can read."


class UnknownModel(TurnError):
    """The turn asks for a model that no configured provider has, or there is no model at all."""

    reason = Reason.UNKNOWN_MODEL
    message = "No configured provider has the model that was asked for."


class PeerFailed(TurnError):
    """Another room refused a call or could not be reached. `reason` is the one it gave."""

    message = "A part of the assistant does not answer. Try again."

    def __init__(self, reason: str, internal: str = "", *, retryable: bool = True) -> None:
        super().__init__(internal)
        self.reason = reason
        self.retryable = retryable
