"""What context_svc refuses, each failure declared once."""

from __future__ import annotations

import grpc

from chassis.errors import ServiceError


class SessionNotFound(ServiceError):
    """The session id is unknown or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SESSION_NOT_FOUND"
    message = "No such session."


class SessionEnded(ServiceError):
    """The session was ended and takes no more messages."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "SESSION_ENDED"
    message = "This session has ended."


class IdempotencyKeyReused(ServiceError):
    """The client-made id was used before, for something else."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "IDEMPOTENCY_KEY_REUSED"
    message = "This id was used before for another request."


class TurnNotFound(ServiceError):
    """The turn id is unknown or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "TURN_NOT_FOUND"
    message = "No such turn."


class TurnRunning(ServiceError):
    """Another turn of the session is open and the message does not want to wait."""

    code = grpc.StatusCode.ABORTED
    reason = "TURN_RUNNING"
    message = "Another answer is still being written."


class TurnOver(ServiceError):
    """The turn has ended; there is nothing left to stop."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TURN_OVER"
    message = "This turn is over."


class MessageNotFound(ServiceError):
    """The message id is unknown or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MESSAGE_NOT_FOUND"
    message = "No such message."


class CursorAhead(ServiceError):
    """The cursor points behind the end of the log."""

    code = grpc.StatusCode.OUT_OF_RANGE
    reason = "CURSOR_AHEAD"
    message = "The cursor is ahead of the session."


class TooManyStreams(ServiceError):
    """The account holds as many open streams as it may."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_STREAMS"
    message = "Too many open streams."


class FrameUnexpected(ServiceError):
    """The frame makes no sense at this point of the stream."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "FRAME_UNEXPECTED"
    message = "This frame does not belong here."


class PeerUnavailable(ServiceError):
    """Another room that this call needs does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "PEER_UNAVAILABLE"
    message = "A part of the assistant is not available. Try again."


class QueueFull(ServiceError):
    """The session has as many waiting messages as it may."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"
    message = "Too many messages wait in this session."
