"""AgentService's messages about jobs."""

from __future__ import annotations

from assistant.agent.v1 import agent_pb2 as pb
from assistant.error.v1 import error_pb2
from context_svc.job_rows import Job
from context_svc.jobs import JobPage
from context_svc.wire.times import timestamp, timestamp_or_none


def job(row: Job) -> pb.Job:
    """A job as its person sees it."""
    return pb.Job(
        id=row.id,
        kind=row.kind,
        title=row.title,
        session_id=row.session_id or "",
        turn_id=row.turn_id,
        state=pb.JobState.ValueType(int(row.state)),
        run_time=timestamp(row.run_us),
        attempts=row.attempts,
        reason=_reason(row.reason),
        create_time=timestamp(row.create_us),
        end_time=timestamp_or_none(row.end_us),
    )


def page(value: JobPage) -> pb.ListJobsResponse:
    """A page of jobs."""
    return pb.ListJobsResponse(jobs=[job(row) for row in value.jobs], next_page_token=value.next_token)


def _reason(name: str) -> error_pb2.ErrorReason.ValueType:
    if not name:
        return error_pb2.ERROR_REASON_UNSPECIFIED
    try:
        return error_pb2.ErrorReason.Value(f"ERROR_REASON_{name}")
    except ValueError:
        return error_pb2.ERROR_REASON_INTERNAL
