"""Small real rooms behind the edge: chassis servers on unix sockets, in a thread of their own.

What they serve is enough to tell the doors apart. A call that none of them serves still answers, through the
boundary, with NOT_SERVED and the room's own domain, so that a test sees how far a call came.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.api import httpbody_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from assistant.chat.v1 import chat_pb2
from assistant.generation.v1 import generation_pb2
from assistant.identity.v1 import identity_pb2
from assistant.knowledge.v1 import knowledge_pb2
from assistant.media.v1 import media_pb2
from assistant.session.v1 import session_pb2
from chassis.access import Audience, Policy
from chassis.auth import Authenticator, Revocations
from chassis.boundary import Boundary
from chassis.clock import SystemClock
from chassis.errors import ServiceError
from chassis.health import Health
from chassis.keys import KeySet
from chassis.serve import serving
from chassis.tokens import USER_TOKEN, Verifier

LARGE = 300_000  # bytes of an answer that is far larger than a connection's buffer at the edge
QUIET_SECONDS = 16  # longer than Envoy's default timeout of a route
Behaviour = Callable[[Any, Any], Any]


class SessionNotFound(ServiceError):
    """No session of that id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SESSION_NOT_FOUND"
    message = "No such session."


@dataclass(kw_only=True, slots=True)
class Seen:
    """What came through the edge, for the tests to look at."""

    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, context: Any) -> None:
        """Keep the metadata of a call."""
        self.metadata.append(dict(context.invocation_metadata()))


def domain(room: str) -> str:
    """The error domain by which a test knows the room that answered."""
    return f"{room}.test"


def _delta(sequence: int, text: str) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(
        session_id="s1", sequence=sequence, turn_id="t1", text_delta=chat_pb2.TextDelta(text=text)
    )


def _context(seen: Seen, keys: KeySet) -> Mapping[str, Behaviour]:
    async def get_server_info(request: Any, context: Any) -> Any:
        seen.note(context)
        return identity_pb2.GetServerInfoResponse(server_name="edge test", version="0.1.0")

    async def get_jwks(request: Any, context: Any) -> Any:
        return httpbody_pb2.HttpBody(
            content_type="application/json", data=json.dumps({"keys": keys.to_jwks()}).encode()
        )

    async def get_session(request: Any, context: Any) -> Any:
        seen.note(context)
        if request.session_id == "missing":
            raise SessionNotFound(metadata={"session_id": "missing"})
        return session_pb2.GetSessionResponse(session=session_pb2.Session(id=request.session_id, title="Hi"))

    async def create_session(request: Any, context: Any) -> Any:
        session = session_pb2.Session(id=request.session_id, title=request.title)
        return session_pb2.CreateSessionResponse(session=session)

    async def list_sessions(request: Any, context: Any) -> Any:
        return session_pb2.ListSessionsResponse(sessions=[session_pb2.Session(id="s1", title="x" * LARGE)])

    async def send_message(request: Any, context: Any) -> AsyncIterator[Any]:
        yield chat_pb2.SendMessageResponse(event=_delta(1, "first"))
        if request.follow:
            await seen.released.wait()
            seen.released.clear()
        yield chat_pb2.SendMessageResponse(event=_delta(2, "last"))

    async def cancel_turn(request: Any, context: Any) -> Any:
        seen.released.set()
        return chat_pb2.CancelTurnResponse()

    async def subscribe(request: Any, context: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(QUIET_SECONDS)
        yield chat_pb2.SubscribeEventsResponse(event=_delta(1, "late"))

    async def chat(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        sequence = 0
        async for request in requests:
            sequence += 1
            said = request.message.parts[0].text if request.WhichOneof("frame") == "message" else "open"
            yield chat_pb2.ChatResponse(event=_delta(sequence, said))

    return {
        "identity.v1.IdentityService.GetServerInfo": get_server_info,
        "identity.v1.IdentityService.GetJwks": get_jwks,
        "session.v1.SessionService.GetSession": get_session,
        "session.v1.SessionService.CreateSession": create_session,
        "session.v1.SessionService.ListSessions": list_sessions,
        "chat.v1.ChatService.SendMessage": send_message,
        "chat.v1.ChatService.CancelTurn": cancel_turn,
        "chat.v1.ChatService.SubscribeEvents": subscribe,
        "chat.v1.ChatService.Chat": chat,
    }


def _llm(seen: Seen, keys: KeySet) -> Mapping[str, Behaviour]:
    async def get_model(request: Any, context: Any) -> Any:
        return generation_pb2.GetModelResponse(model=generation_pb2.Model(name=request.model))

    return {"generation.v1.GenerationService.GetModel": get_model}


def _media(seen: Seen, keys: KeySet) -> Mapping[str, Behaviour]:
    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        size = sum([len(request.chunk) async for request in requests])
        return media_pb2.UploadMediaResponse(media=media_pb2.Media(id="m1", size=size))

    async def search(request: Any, context: Any) -> Any:
        return knowledge_pb2.SearchDocumentsResponse()

    return {
        "media.v1.MediaService.UploadMedia": upload,
        "knowledge.v1.KnowledgeService.SearchDocuments": search,
    }


_ROOMS: Mapping[str, Callable[[Seen, KeySet], Mapping[str, Behaviour]]] = {
    "context": _context,
    "llm": _llm,
    "media": _media,
}
_OPEN = {"GetServerInfo", "GetJwks"}


def _method(name: str) -> MethodDescriptor:
    return Default().FindMethodByName(f"assistant.{name}")


def _handler(method: MethodDescriptor, behaviour: Behaviour) -> grpc.RpcMethodHandler:
    kinds: Mapping[tuple[bool, bool], Any] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = kinds[(method.client_streaming, method.server_streaming)]
    request = GetMessageClass(method.input_type)
    handler: grpc.RpcMethodHandler = make(
        behaviour, request.FromString, GetMessageClass(method.output_type).SerializeToString
    )
    return handler


def _register(server: grpc.aio.Server, behaviours: Mapping[str, Behaviour]) -> None:
    for name, behaviour in behaviours.items():
        method = _method(name)
        handlers = {method.name: _handler(method, behaviour)}
        service = method.containing_service.full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _policies(behaviours: Mapping[str, Behaviour]) -> dict[str, Policy]:
    policies = {}
    for name in behaviours:
        method = _method(name)
        open_to_all = method.name in _OPEN
        stream = method.client_streaming or method.server_streaming
        policies[f"/{method.containing_service.full_name}/{method.name}"] = Policy(
            audience=Audience.OPEN if open_to_all else Audience.USER,
            deadline=None if stream else timedelta(seconds=5),
        )
    return policies


async def _serve(folder: Path, keys: KeySet, descriptors: bytes, seen: Seen, stack: AsyncExitStack) -> None:
    clock = SystemClock()
    verifier = Verifier(keys, "assistant.mesh", "mesh", USER_TOKEN, clock)
    authenticator = Authenticator(verifier, None, Revocations(clock, patience=None), clock)
    for room, make in _ROOMS.items():
        behaviours = make(seen, keys)
        boundary = Boundary(policies=_policies(behaviours), authenticator=authenticator, domain=domain(room))
        await stack.enter_async_context(
            serving(
                addresses=[f"unix:{folder}/{room}.sock"],
                services=[lambda server, own=behaviours: _register(server, own)],  # type: ignore[misc]
                service_names=[],
                boundary=boundary,
                health=Health(),
                descriptors=descriptors,
                grace=timedelta(0),
            )
        )


@contextmanager
def rooms(folder: Path, keys: KeySet, descriptors: bytes) -> Iterator[Seen]:
    """Serve context, llm and media on ``<folder>/<room>.sock`` while the block runs."""
    seen = Seen()
    started = threading.Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(partial(loop.call_soon_threadsafe, ended.set))
        async with AsyncExitStack() as stack:
            await _serve(folder, keys, descriptors, seen, stack)
            started.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="rooms")
    thread.start()
    try:
        assert started.wait(10), "the rooms did not start"
        yield seen
    finally:
        for end in stop:
            end()
        thread.join(10)
