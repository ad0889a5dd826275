"""The room put together: the only module that names concrete adapters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from chassis import certificates
from chassis.auth import Authenticator, Revocations, RoomIdentity, room_issuer
from chassis.boundary import Boundary
from chassis.clock import Clock, SystemClock
from chassis.crossing import Authenticates
from chassis.dial import open_channel
from chassis.health import Health
from chassis.keys import KeySet, load_or_create_key
from chassis.serve import INTERNAL_MESSAGE, Server, serving
from chassis.tasks import Tasks
from chassis.tokens import ROOM_TOKEN, Signer, Verifier
from orchestrator_svc.access import POLICIES
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.extensions import extended
from orchestrator_svc.peers import LlmModels
from orchestrator_svc.selection import Limits
from orchestrator_svc.servicer import SERVICE, TurnServicer
from orchestrator_svc.settings import Settings
from orchestrator_svc.turns import Turns
from orchestrator_svc.warm_up import warm_up

ROOM = "orchestrator"
DOMAIN = "assistant.mesh"


@asynccontextmanager
async def app(
    settings: Settings,
    *,
    clock: Clock | None = None,
    authenticator: Authenticates | None = None,
    catalogue: Catalogue | None = None,
) -> AsyncIterator[Server]:
    """The room on its socket. Opened in order, closed in reverse."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        if catalogue is None:
            catalogue = await stack.enter_async_context(extended(settings, clock))
        identity = _identity(settings.keys_dir, clock)
        own = certificates.read(settings.tls_dir, ROOM)
        channel = await stack.enter_async_context(
            open_channel(
                settings.llm,
                identity=identity,
                callee="llm",
                max_message=INTERNAL_MESSAGE,
                certificates=own,
            )
        )
        models = LlmModels(channel, clock)
        tasks = await stack.enter_async_context(Tasks())
        limits = Limits(actions=settings.offered_actions, share=settings.offered_percent / 100)
        if settings.warm_up:
            tasks.spawn("warm-up", warm_up(models, catalogue, limits, clock))
        turns = Turns(models=models, catalogue=catalogue, clock=clock, limits=limits)
        running = serving(
            addresses=[settings.listen],
            services=[TurnServicer(turns, catalogue, models).register],
            service_names=[SERVICE],
            boundary=Boundary(
                policies=POLICIES,
                authenticator=authenticator or _authenticator(settings.keys_dir, clock),
                domain=DOMAIN,
                clock=clock,
            ),
            health=Health((SERVICE,)),
            max_message=INTERNAL_MESSAGE,
            certificates=own,
        )
        yield await stack.enter_async_context(running)


def _identity(keys: Path, clock: Clock) -> RoomIdentity:
    name = room_issuer(ROOM)
    return RoomIdentity(ROOM, Signer(load_or_create_key(keys / f"{ROOM}.key"), name, name), clock)


def _authenticator(keys: Path, clock: Clock) -> Authenticator:
    jwks = json.loads((keys / "rooms.jwks").read_text())["keys"]
    rooms = Verifier(KeySet(jwks), None, ROOM, ROOM_TOKEN, clock, session=False)
    return Authenticator(None, rooms, Revocations(clock), clock)
