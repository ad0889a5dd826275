"""Every RPC of the contract, from its descriptors, with the row of the room that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import context_svc.access
import llm_svc.access
import media_svc.access
import orchestrator_svc.access
from assistant.agent.v1 import agent_pb2 as _agent  # noqa: F401 - each registers its descriptors
from assistant.chat.v1 import chat_pb2 as _chat  # noqa: F401
from assistant.context.v1 import context_pb2 as _context  # noqa: F401
from assistant.identity.v1 import identity_pb2 as _identity  # noqa: F401
from assistant.knowledge.v1 import knowledge_pb2 as _knowledge  # noqa: F401
from assistant.media.v1 import media_pb2 as _media  # noqa: F401
from assistant.notification.v1 import notification_pb2 as _notification  # noqa: F401
from assistant.operator.v1 import operator_pb2 as _operator  # noqa: F401
from assistant.reminder.v1 import reminder_pb2 as _reminder  # noqa: F401
from assistant.session.v1 import session_pb2 as _session  # noqa: F401
from assistant.turn.v1 import turn_pb2 as _turn  # noqa: F401
from chassis.access import Audience, Policies, Policy

DESCRIPTORS = Path(__file__).parents[3] / "generated" / "descriptors.binpb"
_TABLES: dict[str, Policies] = {
    "context": context_svc.access.PUBLIC,
    "operator": context_svc.access.OPERATOR,
    "orchestrator": orchestrator_svc.access.POLICIES,
    "llm": llm_svc.access.POLICIES,
    "media": media_svc.access.POLICIES,
}


@dataclass(frozen=True, kw_only=True)
class Rpc:
    """A method: its full name, the socket that serves it, its row, and its HTTP binding if it has one."""

    name: str
    room: str
    policy: Policy
    streams: bool
    sends: bool  # a stream of requests
    talks: bool  # both ways: its stream of requests stays open
    rule: HttpRule | None

    def __str__(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def public(self) -> bool:
        """Whether the edge knows it."""
        return self.policy.audience in (Audience.OPEN, Audience.USER)

    def request(self, **fields: Any) -> Message:
        """A request with those of the fields that it has, whatever else it would need."""
        service, _, method = self.name[1:].rpartition("/")
        kind = Default().FindServiceByName(service).methods_by_name[method].input_type
        return GetMessageClass(kind)(
            **{name: value for name, value in fields.items() if name in kind.fields_by_name}
        )


@cache
def rpcs() -> tuple[Rpc, ...]:
    """All of them. Raises KeyError for one that no room's table has: then the build fails."""
    return tuple(_rpcs())


def _rpcs() -> Iterator[Rpc]:
    rows = {name: (room, policy) for room, table in _TABLES.items() for name, policy in table.items()}
    files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    for file in files.file:
        for service in file.service:
            for method in service.method:
                name = f"/{file.package}.{service.name}/{method.name}"
                room, policy = rows.pop(name)
                rule = method.options.Extensions[annotations_pb2.http]
                yield Rpc(
                    name=name,
                    room=room,
                    policy=policy,
                    streams=method.client_streaming or method.server_streaming,
                    sends=method.client_streaming,
                    talks=method.client_streaming and method.server_streaming,
                    rule=rule if rule.WhichOneof("pattern") else None,
                )
    if rows:
        raise KeyError(f"rows without an RPC: {sorted(rows)}")
