"""Reading why a call was refused, as a client does: by reason."""

from __future__ import annotations

from collections.abc import Awaitable

import grpc
from google.rpc import error_details_pb2, status_pb2


async def refused(call: Awaitable[object]) -> str:
    """The reason a call fails with; raises AssertionError when it does not fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error)
    raise AssertionError("the call was not refused")


def reason(error: grpc.aio.AioRpcError) -> str:
    """The ErrorInfo's reason."""
    return str(info(error).reason)


def info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a refusal."""
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    found = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(found):
            return found
    raise AssertionError("no ErrorInfo")
