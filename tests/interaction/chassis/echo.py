"""A small service of all four kinds, with one rule of the contract on its message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from chassis import call
from chassis.access import Audience, Policy
from chassis.errors import Overloaded

SERVICE = "chassis.test.v1.EchoService"
UNARY, SERVER, CLIENT, BIDI = (f"/{SERVICE}/{name}" for name in ("Unary", "Server", "Client", "Bidi"))
METHODS = (UNARY, SERVER, CLIENT, BIDI)
SECRET = "postgresql://mesh:hunter2@db.internal/prod"


def _described() -> FileDescriptorProto:
    file = FileDescriptorProto(name="chassis/test/v1/echo.proto", package="chassis.test.v1", syntax="proto3")
    message = file.message_type.add(name="Word")
    field = message.field.add(
        name="text",
        number=1,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    # (buf.validate.field).string.max_len = 40, as bytes: extension 1159 { string = 14 { max_len = 3: 40 } }
    field.options.MergeFromString(b"\xba\x48\x04\x72\x02\x18\x28")
    service = file.service.add(name="EchoService")
    for method in METHODS:
        service.method.add(
            name=method.rpartition("/")[2],
            input_type=".chassis.test.v1.Word",
            output_type=".chassis.test.v1.Word",
        )
    return file


DESCRIPTORS = FileDescriptorSet(file=[_described()]).SerializeToString()
_pool = DescriptorPool()
_pool.Add(_described())
Word: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("chassis.test.v1.Word"))


def policies(
    audience: Audience = Audience.OPEN, deadline: timedelta | None = timedelta(seconds=5), **more: Any
) -> dict[str, Policy]:
    return dict.fromkeys(METHODS, Policy(audience=audience, deadline=deadline, **more))


class Echo:
    """What a word makes the service do: ``boom``, ``refuse``, ``wait``, ``wrong``, ``bytes``, ``late``."""

    def __init__(self) -> None:
        self.calls: list[call.Call] = []
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def answer(self, text: str) -> Any:
        self.calls.append(call.current())
        match text:
            case "boom":
                raise RuntimeError(f"cannot connect to {SECRET}")
            case "late":
                raise TimeoutError("the handler's own")
            case "refuse":
                raise Overloaded(
                    "inside", metadata={"limit": "4"}, retry_after=timedelta(seconds=7), quota="turns"
                )
            case "wrong":
                return object()
            case "bytes":
                return Word(text="ready-made").SerializeToString()
            case "wait":
                await self._wait()
        return Word(text=text)

    async def _wait(self) -> None:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def unary(self, request: Any, context: object) -> Any:
        return await self.answer(request.text)

    async def server(self, request: Any, context: object) -> AsyncIterator[Any]:
        for word in request.text.split():
            yield await self.answer(word)

    async def client(self, requests: AsyncIterator[Any], context: object) -> Any:
        return await self.answer(" ".join([request.text async for request in requests]))

    async def bidi(self, requests: AsyncIterator[Any], context: object) -> AsyncIterator[Any]:
        async for request in requests:
            yield await self.answer(request.text)

    def register(self, server: grpc.aio.Server) -> None:
        read, write = Word.FromString, Word.SerializeToString
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary, read, write),
            "Server": grpc.unary_stream_rpc_method_handler(self.server, read, write),
            "Client": grpc.stream_unary_rpc_method_handler(self.client, read, write),
            "Bidi": grpc.stream_stream_rpc_method_handler(self.bidi, read, write),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def start(channel: grpc.aio.Channel, method: str, *requests: bytes, **options: Any) -> Any:
    """Begin a call of any kind with raw request bytes; answers are read as words."""
    many_requests, many_answers = method in (CLIENT, BIDI), method in (SERVER, BIDI)
    kind = f"{'stream' if many_requests else 'unary'}_{'stream' if many_answers else 'unary'}"
    begin = getattr(channel, kind)(method, None, Word.FromString)
    return begin(_each(requests) if many_requests else requests[0], **options)


async def ask(channel: grpc.aio.Channel, method: str, *requests: bytes, **options: Any) -> list[str]:
    """Make the whole call; the words it answered. Raises AioRpcError."""
    begun = start(channel, method, *requests, **options)
    if method in (SERVER, BIDI):
        return [answer.text async for answer in begun]
    return [(await begun).text]


def word(text: str) -> bytes:
    data: bytes = Word(text=text).SerializeToString()
    return data


async def _each(requests: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request
