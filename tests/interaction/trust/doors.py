"""One call on each door, and what came of it in one form."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import quote, unquote

import grpc
import httpx
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tests.interaction.trust.contract import Rpc

QUIET = 0.4  # seconds: a stream that was let in and says nothing
PATIENT = 10.0  # seconds for an answer that has to come, however busy the machine is
_DETAILS = "grpc-status-details-bin"
IN_BAND = re.compile(rb"[A-Z]{3,}_[A-Z_]{3,}")  # the reason of a refusal inside a stream that goes on
Headers = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a client of any door learns. An empty reason is a good answer, whose bytes are `body`."""

    reason: str = ""
    code: int = 0
    message: str = ""
    fields: tuple[str, ...] = ()
    retry_seconds: float | None = None
    request_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    body: bytes = b""


class Door(Protocol):
    """A way in."""

    async def ask(
        self, rpc: Rpc, request: Message | None, headers: Headers, *, refused: bool = False
    ) -> Outcome:
        """Call a method. None: an empty message.

        A stream is heard for a moment; where it has to be `refused`, until it says so or ends.
        """


def told(status: Status) -> Outcome:
    """The outcome that a status tells."""
    info, bad, retry, request = ErrorInfo(), BadRequest(), RetryInfo(), RequestInfo()
    for detail in status.details:
        for message in (info, bad, retry, request):
            detail.Unpack(message)
    return Outcome(
        reason=info.reason or "NONE",
        code=status.code,
        message=status.message,
        fields=tuple(each.field for each in bad.field_violations),
        retry_seconds=retry.retry_delay.ToTimedelta().total_seconds()
        if retry.HasField("retry_delay")
        else None,
        request_id=request.request_id or info.metadata.get("request_id", ""),
        metadata={key: value for key, value in info.metadata.items() if key != "request_id"},
        body=status.SerializeToString(),
    )


def _identified(status: Status, headers: Mapping[str, Any]) -> Outcome:
    """The edge itself tells the request's id in a header, a room in the details too: both are the same."""
    outcome, header = told(status), str(headers.get("x-request-id", ""))
    assert outcome.request_id in ("", header) or not header
    return replace(outcome, request_id=outcome.request_id or header)


class Native:
    """gRPC, on a room's socket or through the edge."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel: Any = channel  # takes bytes, which its types do not know

    async def ask(
        self, rpc: Rpc, request: Message | None, headers: Headers, *, refused: bool = False
    ) -> Outcome:
        """See `Door`."""
        data = b"" if request is None else request.SerializeToString()
        metadata = tuple(headers.items())
        call: Any
        if rpc.sends:
            frames = _kept_open(request) if rpc.talks else _frames(request)
            call = self._channel.stream_stream(rpc.name)(frames, metadata=metadata)
        else:  # on the wire one answer is a stream of one
            call = self._channel.unary_stream(rpc.name)(data, metadata=metadata)
        found: list[bytes] = []
        try:
            async with asyncio.timeout(QUIET if rpc.streams and not refused else PATIENT):
                async for each in call:
                    found.append(each)
                    if refused and IN_BAND.search(each):
                        break
        except TimeoutError:
            assert rpc.streams, f"{rpc} did not answer"
        except grpc.aio.AioRpcError as error:
            return _failed(error)
        finally:
            call.cancel()
        return Outcome(body=b"".join(found))


async def _frames(request: Message | None) -> AsyncIterator[bytes]:
    if request is None:  # grpc.aio calls a write to a stream that was refused meanwhile a fault of its own
        await asyncio.Event().wait()
    else:
        yield request.SerializeToString()


async def _kept_open(request: Message | None) -> AsyncIterator[bytes]:
    if request is None:
        await asyncio.Event().wait()
        return
    if "open" in request.DESCRIPTOR.fields_by_name:  # such a stream wants to be opened first
        opening: Any = type(request)()
        opening.open.SetInParent()
        yield opening.SerializeToString()
    yield request.SerializeToString()
    await asyncio.Event().wait()


def _failed(error: grpc.aio.AioRpcError) -> Outcome:
    found = dict((*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())))
    details = found.get(_DETAILS)
    if not isinstance(details, bytes):
        return Outcome(reason="NONE", code=error.code().value[0], message=error.details() or "")
    return _identified(Status.FromString(details), found)


class Web:
    """grpc-web, through the edge."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(
        self, rpc: Rpc, request: Message | None, headers: Headers, *, refused: bool = False
    ) -> Outcome:
        """See `Door`."""
        data = b"" if request is None else request.SerializeToString()
        framed = b"\0" + len(data).to_bytes(4, "big") + data
        kind = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        sent = {"content": framed, "headers": {**headers, **kind}}
        answer, body = await _received(
            self._client, "POST", rpc.name, sent, patient=refused or not rpc.streams
        )
        trailers, messages = dict(answer.headers), b""
        while body:
            flag, size = body[0], int.from_bytes(body[1:5], "big")
            if flag & 0x80:
                lines = body[5 : 5 + size].decode().split("\r\n")
                trailers |= {
                    key.lower(): value.strip() for key, _, value in (x.partition(":") for x in lines)
                }
            else:
                messages += body[5 : 5 + size]
            body = body[5 + size :]
        code = int(trailers.get("grpc-status", "0"))
        if not code:
            return Outcome(body=answer_bytes(framed=messages, text=str(trailers)))
        details = trailers.get(_DETAILS, "")
        if not details:
            return Outcome(reason="NONE", code=code, message=unquote(trailers.get("grpc-message", "")))
        status = Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
        return _identified(status, trailers)


def answer_bytes(*, framed: bytes, text: str) -> bytes:
    """What an answer holds, to look for words in."""
    return framed + text.encode()


class Json:
    """JSON, through the edge."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(
        self, rpc: Rpc, request: Message | None, headers: Headers, *, refused: bool = False
    ) -> Outcome:
        """See `Door`."""
        assert rpc.rule is not None
        verb = str(rpc.rule.WhichOneof("pattern"))
        values = {} if request is None else MessageToDict(request, preserving_proto_field_name=True)
        path, used = _path(str(getattr(rpc.rule, verb)), values)
        rest = {name: value for name, value in values.items() if name not in used}
        sent: dict[str, Any] = {"headers": dict(headers)}
        if rpc.rule.body == "*":
            sent["json"] = rest
        elif rpc.rule.body:
            sent["json"] = rest.pop(rpc.rule.body, {})
        if rpc.rule.body != "*":
            sent["params"] = {
                name: value for name, value in rest.items() if isinstance(value, (str, int, bool))
            }
        answer, body = await _received(
            self._client, verb.upper(), path, sent, patient=refused or not rpc.streams
        )
        if answer.status_code < 400:
            return Outcome(body=body)
        return _identified(ParseDict(httpx.Response(200, content=body).json(), Status()), answer.headers)


def _path(template: str, values: Mapping[str, Any]) -> tuple[str, set[str]]:
    """The path with its parts filled in, and the fields that need not come again."""

    def part(match: re.Match[str]) -> str:
        value: Any = values
        for name in match.group(1).split("."):
            value = value.get(name, "x") if isinstance(value, Mapping) else "x"
        return quote(str(value), safe="/" if "**" in match.group() else "")

    return re.sub(r"\{([\w.]+)[^}]*\}", part, template), set(re.findall(r"\{(\w+)[=}]", template))


async def _received(
    client: httpx.AsyncClient, verb: str, path: str, sent: Mapping[str, Any], *, patient: bool
) -> tuple[httpx.Response, bytes]:
    """The answer and its bytes; of a stream what comes within a moment."""
    body = bytearray()
    async with client.stream(verb, path, **sent) as answer:
        try:
            async with asyncio.timeout(PATIENT if patient else QUIET):
                async for piece in answer.aiter_bytes():
                    body += piece
        except TimeoutError:
            assert not patient, f"{path} did not answer"
    return answer, bytes(body)
