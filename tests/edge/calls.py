"""The same call on each door, and a failure of any door in one form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from google.protobuf.json_format import ParseDict
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

DETAILS = "grpc-status-details-bin"
FRAME_WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
EMPTY_FRAME = b"\0\0\0\0\0"
WEB = Path(__file__).parent / "web"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What a client may decide by: gRPC's code, the public words, ErrorInfo's reason and domain."""

    code: int
    message: str
    reason: str
    domain: str


def from_status(status: Status) -> Failure:
    """The failure a Status tells. Raises ValueError when it has no ErrorInfo."""
    for detail in status.details:
        info = ErrorInfo()
        if detail.Unpack(info):
            return Failure(code=status.code, message=status.message, reason=info.reason, domain=info.domain)
    raise ValueError(f"no ErrorInfo in {status}")


def from_json(response: httpx.Response) -> Failure:
    """The failure of the JSON door: its body has to be a google.rpc.Status in ProtoJSON."""
    assert response.headers["content-type"] == "application/json"
    return from_status(ParseDict(response.json(), Status()))


def from_grpc(error: grpc.aio.AioRpcError) -> Failure:
    """The failure of the native door; the status and its details have to say the same."""
    found = dict((*error.initial_metadata(), *error.trailing_metadata()))
    details = found[DETAILS]
    assert isinstance(details, bytes)
    failure = from_status(Status.FromString(details))
    assert (failure.code, failure.message) == (error.code().value[0], error.details())
    return failure


async def native(
    channel: grpc.aio.Channel, method: str, headers: Mapping[str, str], request: bytes = b""
) -> bytes:
    """Call a method with bytes and answer its bytes, through a stub that knows no types."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    answer: bytes = await call(request, metadata=tuple(headers.items()), timeout=10)
    return answer


async def native_failure(
    channel: grpc.aio.Channel, method: str, headers: Mapping[str, str], request: bytes = b""
) -> Failure:
    """Call a method that has to fail, and answer how it did."""
    try:
        await native(channel, method, headers, request)
    except grpc.aio.AioRpcError as error:
        return from_grpc(error)
    raise AssertionError(f"{method} did not fail")


async def browser(url: str, token: str, case: str) -> list[dict[str, object]]:
    """Run one case of the grpc-web client and answer what it told, within 20 s."""
    process = await asyncio.create_subprocess_exec(
        "node", "client.mjs", url, token, case, cwd=WEB, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


async def events(response: httpx.Response) -> AsyncIterator[dict[str, object]]:
    """The events of an SSE answer, as they come."""
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))
