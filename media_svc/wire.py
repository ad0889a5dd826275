"""Between the contract's messages and the room's own nouns. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from assistant.error.v1 import error_pb2
from assistant.media.v1 import media_pb2 as pb
from assistant.message.v1 import message_pb2
from media_svc import errors
from media_svc.arrivals import Arrived, Arriving
from media_svc.backup import Counts, Finished, Header
from media_svc.claims import Claim
from media_svc.errors import FrameUnexpected
from media_svc.kinds import Kind
from media_svc.library import Media, Page
from media_svc.shelf import Reading, Variant
from media_svc.stewardship import Erased, Exported
from media_svc.uploads import Announced, State, Upload

_KINDS = {
    Kind.IMAGE: pb.MEDIA_KIND_IMAGE,
    Kind.AUDIO: pb.MEDIA_KIND_AUDIO,
    Kind.DOCUMENT: pb.MEDIA_KIND_DOCUMENT,
}
_STATES = {
    State.RECEIVING: pb.UPLOAD_STATE_RECEIVING,
    State.CHECKING: pb.UPLOAD_STATE_CHECKING,
    State.FINISHED: pb.UPLOAD_STATE_FINISHED,
    State.FAILED: pb.UPLOAD_STATE_FAILED,
}
_VARIANTS = {
    pb.MEDIA_VARIANT_UNSPECIFIED: Variant.STORED,
    pb.MEDIA_VARIANT_STORED: Variant.STORED,
    pb.MEDIA_VARIANT_THUMBNAIL: Variant.THUMBNAIL,
    pb.MEDIA_VARIANT_MODEL: Variant.MODEL,
    pb.MEDIA_VARIANT_TEXT: Variant.TEXT,
}


def announced(header: pb.UploadHeader) -> Announced:
    """What an upload will send."""
    return Announced(
        request_id=header.request_id,
        size=header.size,
        sha256=header.sha256,
        file_name=header.file_name,
        mime_type=header.mime_type,
        local_only=header.placement == message_pb2.PLACEMENT_LOCAL_ONLY,
    )


async def first_header(frames: AsyncIterator[pb.UploadMediaRequest]) -> Announced:
    """The header that must be a stream's first frame. Raises FrameUnexpected."""
    first = await anext(frames, None)
    if first is None or first.WhichOneof("frame") != "header":
        raise FrameUnexpected
    return announced(first.header)


async def chunks(
    frames: AsyncIterator[pb.UploadMediaRequest] | AsyncIterator[pb.ImportMediaRequest],
) -> AsyncIterator[bytes]:
    """The bytes that must be all the rest. Raises FrameUnexpected."""
    async for frame in frames:
        if frame.WhichOneof("frame") != "chunk":
            raise FrameUnexpected
        yield frame.chunk


def kind(asked: pb.MediaKind.ValueType) -> Kind | None:
    """The kind a list is narrowed to, if it is."""
    return {number: each for each, number in _KINDS.items()}.get(asked)


def variant(asked: pb.MediaVariant.ValueType) -> Variant:
    """The form of a file that is asked for."""
    return _VARIANTS[asked]


def media(kept: Media) -> pb.Media:
    """A file."""
    return pb.Media(
        id=kept.id,
        kind=_KINDS[kept.found.kind],
        mime_type=kept.found.mime_type,
        file_name=kept.file_name,
        size=kept.size,
        sha256=kept.sha256,
        upload_sha256=kept.upload_sha256,
        placement=message_pb2.PLACEMENT_LOCAL_ONLY if kept.local_only else message_pb2.PLACEMENT_ANY,
        variants=[pb.MEDIA_VARIANT_STORED],
        create_time=_time(kept.create_us),
        expire_time=None if kept.expire_us is None else _time(kept.expire_us),
    )


def upload(kept: Upload) -> pb.Upload:
    """An upload."""
    answer = pb.Upload(
        id=kept.id,
        state=_STATES[kept.state],
        size=kept.announced.size,
        received_size=kept.received,
        media=None if kept.media is None else media(kept.media),
        expire_time=_time(kept.expire_us),
    )
    if kept.failure is not None:
        answer.failure = error_pb2.ErrorReason.Value(f"ERROR_REASON_{kept.failure}")
        answer.failure_message = errors.refusal(kept.failure).message
    return answer


def page(found: Page, quota: int) -> pb.ListMediaResponse:
    """A page of files."""
    return pb.ListMediaResponse(
        media=[media(each) for each in found.media],
        next_page_token=found.next,
        used_bytes=found.used_bytes,
        quota_bytes=quota,
    )


def download_header(reading: Reading) -> pb.DownloadMediaResponse:
    """A download's first frame."""
    return pb.DownloadMediaResponse(
        header=pb.DownloadHeader(
            mime_type=reading.media.found.mime_type,
            size=reading.media.size,
            sha256=reading.media.sha256,
            offset=reading.offset,
            length=reading.length,
        )
    )


def download_chunk(piece: bytes) -> pb.DownloadMediaResponse:
    """One of the frames between."""
    return pb.DownloadMediaResponse(chunk=piece)


def download_finished() -> pb.DownloadMediaResponse:
    """A download's last frame."""
    return pb.DownloadMediaResponse(finished=pb.DownloadFinished())


def claim(request: pb.ClaimMediaRequest, owner: str) -> Claim:
    """What is to be held."""
    return Claim(
        account=owner,
        id=request.claim_id,
        session_id=request.session_id,
        media_ids=tuple(request.media_ids),
        excluded=request.excluded_from_backup,
    )


def claimed(files: Sequence[Media]) -> pb.ClaimMediaResponse:
    """What is held."""
    return pb.ClaimMediaResponse(media=[media(each) for each in files])


def erased(value: Erased) -> pb.EraseOwnerResponse:
    """How far an erasure is."""
    return pb.EraseOwnerResponse(erased=value.done, remaining=value.remaining)


async def arriving(frames: AsyncIterator[pb.ImportMediaRequest]) -> Arriving:
    """The header that must be the first frame of an import. Raises FrameUnexpected."""
    first = await anext(frames, None)
    if first is None or first.WhichOneof("frame") != "header":
        raise FrameUnexpected
    told = first.header.media
    return Arriving(
        claim_id=first.header.claim_id,
        id=told.id,
        file_name=told.file_name,
        mime_type=told.mime_type,
        size=told.size,
        sha256=told.sha256,
        upload_sha256=told.upload_sha256,
        local_only=told.placement == message_pb2.PLACEMENT_LOCAL_ONLY,
        create_us=told.create_time.ToMicroseconds(),
    )


def arrived(value: Arrived) -> pb.ImportMediaResponse:
    """A file that was imported."""
    return pb.ImportMediaResponse(media=media(value.media), added=value.added)


def exported(part: Media | bytes | Exported) -> pb.ExportOwnerResponse:
    """A frame of an export."""
    match part:
        case Media():
            return pb.ExportOwnerResponse(media=media(part))
        case Exported():
            return pb.ExportOwnerResponse(finished=pb.OwnerExportFinished(media_count=part.files))
        case _:
            return pb.ExportOwnerResponse(chunk=part)


def backup_frame(part: Header | bytes | Finished) -> pb.WriteBackupResponse:
    """A frame of a backup on its way out."""
    match part:
        case bytes():
            return pb.WriteBackupResponse(chunk=part)
        case Header():
            header = pb.BackupHeader(
                backup_id=part.backup_id, format_version=part.format, snapshot_time=_time(part.snapshot_us)
            )
            return pb.WriteBackupResponse(header=header)
        case Finished():
            return pb.WriteBackupResponse(finished=pb.BackupFinished(size=part.size, sha256=part.sha256))


async def backup_parts(
    frames: AsyncIterator[pb.ReadBackupRequest],
) -> AsyncIterator[Header | bytes | Finished]:
    """The frames of a backup on its way in."""
    async for frame in frames:
        match frame.WhichOneof("frame"):
            case "header":
                yield Header(
                    backup_id=frame.header.backup_id,
                    format=frame.header.format_version,
                    snapshot_us=frame.header.snapshot_time.ToMicroseconds(),
                )
            case "finished":
                yield Finished(size=frame.finished.size, sha256=frame.finished.sha256)
            case _:
                yield frame.chunk


def restored(counts: Counts) -> pb.ReadBackupResponse:
    """What there is after a restore."""
    return pb.ReadBackupResponse(media_count=counts.media, document_count=counts.documents)


def _time(moment_us: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(moment_us)
    return stamp
