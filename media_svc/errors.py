"""The failures of media_svc, each declared once."""

from __future__ import annotations

from typing import TypeAlias

from grpc import StatusCode as Code

from chassis.errors import ServiceError


class MediaNotFound(ServiceError):
    """The file is unknown, gone, or somebody else's."""

    code = Code.NOT_FOUND
    reason = "MEDIA_NOT_FOUND"
    message = "No such file."


class UploadNotFound(ServiceError):
    """The upload is unknown, expired, or somebody else's."""

    code = Code.NOT_FOUND
    reason = "UPLOAD_NOT_FOUND"
    message = "No such upload, or it has expired."


class MediaTooLarge(ServiceError):
    """The file is larger than its kind may be; metadata `limit` has the bytes."""

    code = Code.INVALID_ARGUMENT
    reason = "MEDIA_TOO_LARGE"
    message = "The file is too large."


class MediaTypeUnsupported(ServiceError):
    """The content is of no type this room takes, whatever its name says."""

    code = Code.INVALID_ARGUMENT
    reason = "MEDIA_TYPE_UNSUPPORTED"
    message = "Files of this type are not taken."


class MediaDigestMismatch(ServiceError):
    """The bytes have not the declared SHA-256 or size."""

    code = Code.INVALID_ARGUMENT
    reason = "MEDIA_DIGEST_MISMATCH"
    message = "What arrived is not what was announced."


class MediaUnreadable(ServiceError):
    """The file is broken, or has no such variant."""

    code = Code.INVALID_ARGUMENT
    reason = "MEDIA_UNREADABLE"
    message = "The file cannot be read like this."


class AnalyzerUnavailable(ServiceError):
    """What would make this variant is not installed here."""

    code = Code.UNAVAILABLE
    reason = "ANALYZER_UNAVAILABLE"
    message = "This cannot be made of the file here."


class OffsetMismatch(ServiceError):
    """A chunk leaves a gap; metadata `offset` says where to go on."""

    code = Code.OUT_OF_RANGE
    reason = "OFFSET_MISMATCH"
    message = "The chunk does not begin where the last one ended."


class RangeInvalid(ServiceError):
    """The byte range begins behind the end of the file."""

    code = Code.OUT_OF_RANGE
    reason = "RANGE_INVALID"
    message = "The byte range lies outside the file."


class FrameUnexpected(ServiceError):
    """A frame that makes no sense at this point of the stream."""

    code = Code.FAILED_PRECONDITION
    reason = "FRAME_UNEXPECTED"
    message = "This frame was not expected here."


class QuotaExceeded(ServiceError):
    """The person keeps as many bytes as they may."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"
    message = "There is no room for this file. Delete others first."


class IdempotencyKeyReused(ServiceError):
    """The client-made id was used before for another request."""

    code = Code.ALREADY_EXISTS
    reason = "IDEMPOTENCY_KEY_REUSED"
    message = "This id was used for another upload. Make a new one."


class BackupTooNew(ServiceError):
    """The backup was made by a newer version than this one."""

    code = Code.FAILED_PRECONDITION
    reason = "BACKUP_TOO_NEW"
    message = "This backup was made by a newer version. Update first."


class ArchiveInvalid(ServiceError):
    """A backup that is not whole, or none of ours."""

    code = Code.INVALID_ARGUMENT
    reason = "ARCHIVE_INVALID"
    message = "This backup is not whole, or not one of ours."


class PageTokenInvalid(ServiceError):
    """The page token is not ours, or of another query."""

    code = Code.INVALID_ARGUMENT
    reason = "PAGE_TOKEN_INVALID"
    message = "The page token does not belong to this list."


Refusal: TypeAlias = MediaTooLarge | MediaTypeUnsupported | MediaDigestMismatch
"""Why a whole file is refused. Its reason is stored with the upload."""

_REFUSALS: dict[str, type[Refusal]] = {
    refusal.reason: refusal for refusal in (MediaTooLarge, MediaTypeUnsupported, MediaDigestMismatch)
}


def refusal(reason: str) -> Refusal:
    """The failure a stored reason stands for. Raises KeyError for one that is never stored."""
    return _REFUSALS[reason]()
