"""The sockets of the room, and who may come in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.auth import Authenticator
from chassis.boundary import Boundary
from chassis.clock import Clock
from chassis.health import Health
from chassis.keys import KeySet
from chassis.serve import Register, Server, serving
from chassis.tokens import ROOM_TOKEN, USER_TOKEN, Verifier
from context_svc import access, signing
from context_svc.foundation import DOMAIN, ROOM, Conversation, Foundation
from context_svc.servicer.operator import OperatorServicer
from context_svc.usage import Gate, Usage

DESCRIPTORS = Path(__file__).parent.parent / "generated" / "descriptors.binpb"


@asynccontextmanager
async def public_door(
    foundation: Foundation, gate: Gate, talk: Conversation, services: Sequence[Register]
) -> AsyncIterator[Server]:
    """Everything but the operator's services, on the room's own socket."""

    async def drain() -> None:
        if talk.drain is not None:
            await talk.drain()
        foundation.feed.drain()  # last: without the feed the other rooms trust no token

    boundary = Boundary(
        policies=access.PUBLIC,
        authenticator=gate,
        domain=DOMAIN,
        clock=foundation.clock,
        in_band=talk.in_band,
    )
    async with serving(
        addresses=[foundation.settings.listen],
        services=services,
        service_names=access.SERVICES,
        boundary=boundary,
        health=foundation.health,
        descriptors=DESCRIPTORS.read_bytes(),
        with_reflection=foundation.settings.with_reflection,
        certificates=foundation.certificates,
        drain=drain,
    ) as server:
        yield server


@asynccontextmanager
async def operator_door(
    foundation: Foundation, gate: Gate, operator: OperatorServicer
) -> AsyncIterator[Server]:
    """The operator's services, on a socket of their own."""
    boundary = Boundary(policies=access.OPERATOR, authenticator=gate, domain=DOMAIN, clock=foundation.clock)
    async with serving(
        addresses=[foundation.settings.operator_listen],
        services=[operator.register],
        service_names=access.OPERATOR_SERVICES,
        boundary=boundary,
        health=Health(access.OPERATOR_SERVICES),
        socket_mode=0o600,
    ) as server:
        yield server


def open_gate(foundation: Foundation) -> Gate:
    """Who calls: people by their tokens, rooms by the keys of the mesh."""
    clock = foundation.clock
    users = Verifier(
        foundation.keys.trusted,
        signing.ISSUER,
        signing.AUDIENCE,
        USER_TOKEN,
        clock,
        lifetime=signing.LONGEST,
    )
    rooms = _rooms(foundation.settings.keys_dir / "rooms.jwks", clock)
    return Gate(
        Authenticator(users, rooms, foundation.revocations, clock),
        users,
        Usage(foundation.database, clock, foundation.tasks),
        foundation.keys,
    )


def _rooms(path: Path, clock: Clock) -> Verifier:
    """Trusts the rooms whose public keys the operator wrote down; none without the file."""
    keys = json.loads(path.read_bytes())["keys"] if path.exists() else []
    return Verifier(KeySet(keys), None, ROOM, ROOM_TOKEN, clock, session=False)
