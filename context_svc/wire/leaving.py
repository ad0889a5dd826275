"""The messages of an account that leaves or arrives: exports and imports."""

from __future__ import annotations

from typing import assert_never

from assistant.error.v1 import error_pb2
from assistant.identity.v1 import identity_pb2 as pb
from context_svc.archive import VERSION
from context_svc.exports import Beat, ExportFrame, Failed, Finished, Started
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


def reason(name: str) -> error_pb2.ErrorReason.ValueType:
    """The contract's number of a reason."""
    return error_pb2.ErrorReason.Value(f"ERROR_REASON_{name}")
