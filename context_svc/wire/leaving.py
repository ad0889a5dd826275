"""The messages of an account that leaves or arrives: exports and imports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_never

from assistant.error.v1 import error_pb2
from assistant.identity.v1 import identity_pb2 as pb
from context_svc.account_archive import VERSION
from context_svc.errors import FrameUnexpected
from context_svc.exports import Beat, ExportFrame, Failed, Finished, Started
from context_svc.imports import AccountImport, Announced, ImportState
from context_svc.wire.times import timestamp


def export_frame(frame: ExportFrame) -> pb.ExportAccountResponse:
    """A frame of an export."""
    match frame:
        case Started():
            started = pb.ExportStarted(
                format_version=VERSION,
                file_name=frame.file_name,
                snapshot_time=timestamp(frame.snapshot_us),
            )
            return pb.ExportAccountResponse(started=started)
        case Beat():
            return pb.ExportAccountResponse(heartbeat=pb.ExportHeartbeat())
        case Finished():
            finished = pb.ExportFinished(size=frame.size, sha256=frame.sha256, record_counts=frame.counts)
            return pb.ExportAccountResponse(finished=finished)
        case Failed():
            failed = pb.ExportFailed(reason=reason(frame.reason), message=frame.message)
            return pb.ExportAccountResponse(failed=failed)
        case bytes():
            return pb.ExportAccountResponse(chunk=frame)
        case _:
            assert_never(frame)


def announced(header: pb.ImportHeader) -> Announced:
    """What an import will send."""
    return Announced(request_id=header.request_id, size=header.size, sha256=header.sha256)


async def first_header(frames: AsyncIterator[pb.ImportAccountRequest]) -> Announced:
    """The header that must be a stream's first frame. Raises FrameUnexpected."""
    first = await anext(frames, None)
    if first is None or first.WhichOneof("frame") != "header":
        raise FrameUnexpected
    return announced(first.header)


async def chunks(frames: AsyncIterator[pb.ImportAccountRequest]) -> AsyncIterator[bytes]:
    """The bytes that must be all the rest. Raises FrameUnexpected."""
    async for frame in frames:
        if frame.WhichOneof("frame") != "chunk":
            raise FrameUnexpected
        yield frame.chunk


def account_import(value: AccountImport) -> pb.AccountImport:
    """An import."""
    done = value.state is ImportState.FINISHED
    answer = pb.AccountImport(
        id=value.id,
        state=pb.ImportState.ValueType(int(value.state)),
        size=value.announced.size,
        received_size=value.received,
        progress=1.0 if done else value.applied / value.steps if value.steps else 0.0,
        create_time=timestamp(value.create_us),
        expire_time=timestamp(value.expire_us),
    )
    if value.state is ImportState.FAILED:
        answer.failure, answer.failure_message = reason(value.failure), value.failure_message
    else:
        answer.added_counts.update(value.added)
        answer.present_counts.update(value.present)
    return answer


def reason(name: str) -> error_pb2.ErrorReason.ValueType:
    """The contract's number of a reason."""
    return error_pb2.ErrorReason.Value(f"ERROR_REASON_{name}")
