"""What this room may refuse with, beyond what the chassis refuses itself.

::

    ServiceError
    ├── SetupCodeWrong       InviteInvalid       EmailTaken          PasswordWeak
    ├── CredentialsWrong     HashingBusy         AccountNotFound     LoginThrottled
    ├── RateLimited          DeviceNotFound      ApiTokenNotFound    ConsentOfAnother
    ├── RefreshTokenInvalid  RefreshTokenReplayed
    ├── SessionNotFound      SessionEnded        ContextItemNotFound
    └── PageTokenInvalid     IdempotencyKeyReused   VersionMismatch   QuotaExceeded
"""

from __future__ import annotations

from datetime import timedelta

import grpc

from chassis.errors import ServiceError, Violation


class ContextItemNotFound(ServiceError):
    """What is known has no item of this key."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "CONTEXT_ITEM_NOT_FOUND"
    message = "No such context item."


class SetupCodeWrong(ServiceError):
    """The first account needs the set-up code, and this is not it, or somebody used it first."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "SETUP_CODE_WRONG"
    message = "The set-up code is missing, wrong or used. `mesh status` shows the one that is good."


class InviteInvalid(ServiceError):
    """No invite, an unknown one, or one that is used or expired."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "INVITE_INVALID"
    message = "A new account needs an invite that is not used or expired."


class EmailTaken(ServiceError):
    """An account with this address exists; addresses are compared without regard to case."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "EMAIL_TAKEN"
    message = "An account with this e-mail address exists."


class PasswordWeak(ServiceError):
    """Not 15 to 256 characters after normalisation, or one that everybody tries first."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "PASSWORD_WEAK"
    message = "The password must have 15 to 256 characters and must not be a common one."


class CredentialsWrong(ServiceError):
    """Unknown address or wrong password: which of them is never said."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "CREDENTIALS_WRONG"
    message = "E-mail or password is wrong."


class HashingBusy(ServiceError):
    """More passwords wait to be checked than the queue takes."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    message = "Too many sign-ins at once. Try again soon."
    default_retry_after = timedelta(seconds=1)


class LoginThrottled(ServiceError):
    """Too many wrong passwords; `retry_after` says when the next one is looked at."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "LOGIN_THROTTLED"
    message = "Too many failed sign-ins. Try again later."


class RateLimited(ServiceError):
    """Too many calls of one kind in a period; `quota` names it, `retry_after` says when to come back."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    message = "Too many calls. Try again later."


class DeviceNotFound(ServiceError):
    """The device id is unknown or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "DEVICE_NOT_FOUND"
    message = "No such device."


class ApiTokenNotFound(ServiceError):
    """The API token is unknown, has ended or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "API_TOKEN_NOT_FOUND"
    message = "No such API token."


class ConsentOfAnother(ServiceError):
    """Consent can be given only from the device itself."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "CALLER_NOT_ALLOWED"
    message = "Consent can be given only on the device itself."


class AccountNotFound(ServiceError):
    """No such account."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "ACCOUNT_NOT_FOUND"
    message = "No such account."


class RefreshTokenInvalid(ServiceError):
    """Unknown, expired, of another device, or of a sign-in that has ended."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "REFRESH_TOKEN_INVALID"
    message = "This sign-in has ended. Sign in again."


class RefreshTokenReplayed(ServiceError):
    """Two holders used the same refresh token; the whole sign-in is ended."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "REFRESH_TOKEN_REPLAYED"
    message = "This sign-in was used from two places and has been ended. Sign in again."


class SessionNotFound(ServiceError):
    """The session id is unknown or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SESSION_NOT_FOUND"
    message = "No such session."


class SessionEnded(ServiceError):
    """The session was ended: it can be read and takes nothing more."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "SESSION_ENDED"
    message = "This session has ended."


class PageTokenInvalid(ServiceError):
    """Not a page token of this mesh, or one of another person's or another query."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "PAGE_TOKEN_INVALID"
    message = "The page token does not belong to this list. Begin with the first page."


class IdempotencyKeyReused(ServiceError):
    """A client-made id came again with another request."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "IDEMPOTENCY_KEY_REUSED"
    message = "This id was used for another request. Make a new one."


class VersionMismatch(ServiceError):
    """Somebody else changed it first. Metadata `current` holds the stored version."""

    code = grpc.StatusCode.ABORTED
    reason = "VERSION_MISMATCH"
    message = "It was changed meanwhile. Read it again, then repeat."


class QuotaExceeded(ServiceError):
    """A stored quantity is at its limit; `quota` names it."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"
    message = "A limit of this account is reached."


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


class TurnNotWaiting(ServiceError):
    """The turn does not wait for this answer: it was answered, superseded, or its time is over."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TURN_NOT_WAITING"
    message = "This turn does not wait for that answer."


class ApprovalMismatch(ServiceError):
    """The approval does not name the arguments that were asked about."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "APPROVAL_MISMATCH"
    message = "The approval does not name the arguments that were asked about."


class ActionNotFound(ServiceError):
    """There is no such action for this person."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "ACTION_NOT_FOUND"
    message = "No such action."


class ArgumentsInvalid(ServiceError):
    """The arguments do not fit the action's schema; `violations` say where."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "ARGUMENTS_INVALID"
    message = "The arguments do not fit the action."

    @classmethod
    def of(cls, field: str, description: str) -> ArgumentsInvalid:
        """The failure of one field."""
        return cls(violations=[Violation(field=field, description=description, rule="action.arguments")])


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


class BackupNotFound(ServiceError):
    """No such backup, or its file is gone."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "BACKUP_NOT_FOUND"
    message = "No such backup."


class BackupTooNew(ServiceError):
    """The backup was made by a newer version than this one."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "BACKUP_TOO_NEW"
    message = "This backup was made by a newer version. Update first."


class ArchiveInvalid(ServiceError):
    """A backup or an account's archive that is not whole, was changed, breaks the format, or is none of ours."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "ARCHIVE_INVALID"
    message = "This file is not whole, or not one of ours."


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


class SuggestionFailed(ServiceError):
    """A background run of the model gave nothing that can be used."""

    code = grpc.StatusCode.INTERNAL
    reason = "PROVIDER_GARBAGE"
    message = "The model gave nothing usable."


class JobNotFound(ServiceError):
    """The job id is unknown or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "JOB_NOT_FOUND"
    message = "No such job."


class ActionForbidden(ServiceError):
    """The person's own choice does not allow the action."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "ACTION_FORBIDDEN"
    message = "Your settings do not allow this."


class ReminderNotFound(ServiceError):
    """The reminder id is unknown or belongs to someone else."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "REMINDER_NOT_FOUND"
    message = "No such reminder."


class SessionSealed(ServiceError):
    """The session is sealed: this room cannot read what the call needs."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "SESSION_SEALED"
    message = "This session is sealed."


class ContextSourceForbidden(ServiceError):
    """This writer may not write items of that source."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "CONTEXT_SOURCE_FORBIDDEN"
    message = "This item cannot be written by this writer."


class ConsentMissing(ServiceError):
    """The person has not agreed that this device reports this kind of context."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CONSENT_MISSING"
    message = "This device has no consent for this kind of context."


class UnknownModel(ServiceError):
    """The catalogue has no such model."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "UNKNOWN_MODEL"
    message = "There is no such model."


class SuggestionNotFound(ServiceError):
    """The suggestion is unknown, belongs to someone else, or was resolved."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SUGGESTION_NOT_FOUND"
    message = "No such suggestion."


class ImportNotFound(ServiceError):
    """The import is unknown, forgotten, or somebody else's."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "IMPORT_NOT_FOUND"
    message = "No such import, or it has expired."


class OffsetMismatch(ServiceError):
    """A chunk leaves a gap or goes beyond the end; metadata `offset` says where to go on."""

    code = grpc.StatusCode.OUT_OF_RANGE
    reason = "OFFSET_MISMATCH"
    message = "The chunk does not begin where the last one ended."


class MediaDigestMismatch(ServiceError):
    """The bytes have not the announced SHA-256 or size."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "MEDIA_DIGEST_MISMATCH"
    message = "What arrived is not what was announced."


class FileRefused(Exception):
    """media_svc does not take a file of an archive; `reason` is its own."""

    message = "A file of the archive is not taken."

    def __init__(self, reason: str) -> None:
        super().__init__(f"media_svc refused a file: {reason}")
        self.reason = reason
