"""The room put together: the only module that names concrete adapters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chassis import certificates, engines
from chassis.auth import Authenticator, Revocations, RoomIdentity, grant_verifier, room_issuer
from chassis.boundary import Boundary
from chassis.clock import Clock, SystemClock
from chassis.dial import open_channel
from chassis.health import Health
from chassis.keys import KeySet, load_or_create_key
from chassis.serve import Server, serving
from chassis.tasks import Tasks
from chassis.tokens import ROOM_TOKEN, USER_TOKEN, Signer, Verifier
from chassis.trust import Trust, follow
from media_svc import peers
from media_svc.access import POLICIES
from media_svc.arrivals import Arrivals
from media_svc.backup import Backup
from media_svc.blobs import open_blobs
from media_svc.checking import Checks
from media_svc.intake import Intake
from media_svc.kinds import Limits
from media_svc.schema import MIGRATIONS
from media_svc.servicer import KNOWLEDGE, MEDIA, KnowledgeServicer, MediaServicer
from media_svc.settings import Settings
from media_svc.shelf import Shelf
from media_svc.stewardship import Stewardship
from media_svc.sweeping import Sweeper

ROOM = "media"
DOMAIN = "assistant.media"
FEED = "context"  # the health name that serves while the revocation feed is heard
DESCRIPTORS = Path(__file__).parent.parent / "generated" / "descriptors.binpb"
_USER_ISSUER, _USER_AUDIENCE = "assistant.mesh", "mesh"


@asynccontextmanager
async def app(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Server]:
    """The room on its socket. Opened in order, closed in reverse."""
    clock = clock or SystemClock()
    health = Health((MEDIA, KNOWLEDGE, FEED))
    async with AsyncExitStack() as stack:
        services = await _files(settings, clock, stack)
        authenticator = await _identity(settings, clock, health, stack)
        running = serving(
            addresses=[settings.listen],
            services=[services.media.register, services.knowledge.register],
            service_names=[MEDIA, KNOWLEDGE],
            boundary=Boundary(policies=POLICIES, authenticator=authenticator, domain=DOMAIN, clock=clock),
            health=health,
            descriptors=DESCRIPTORS.read_bytes(),
            certificates=certificates.read(settings.tls_dir, ROOM),
        )
        yield await stack.enter_async_context(running)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Services:
    media: MediaServicer
    knowledge: KnowledgeServicer


async def _files(settings: Settings, clock: Clock, stack: AsyncExitStack) -> _Services:
    """Database, store, and what works on them."""
    folder = settings.data_dir / "media"
    work = folder / "work"
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = await stack.enter_async_context(
        engines.connect(_database_url(settings), schema=ROOM, clock=clock)
    )
    await database.migrate(MIGRATIONS)
    blobs = open_blobs(settings.store or f"file://{(folder / 'blobs').absolute()}")
    await blobs.ready()
    tasks = await stack.enter_async_context(Tasks())
    limits = Limits(image=settings.image_limit, audio=settings.audio_limit, document=settings.document_limit)
    due = asyncio.Event()
    checks = Checks(database, blobs, tasks, clock, limits=limits, work=work, due=due)
    sweeper = Sweeper(database, blobs, checks, clock, due)
    tasks.spawn("sweep", sweeper.run())
    intake = Intake(database, blobs, checks, clock, limits=limits, quota=settings.quota)
    shelf = Shelf(database, blobs, sweeper, clock, quota=settings.quota)
    arrivals = Arrivals(database, blobs, clock, limits=limits, quota=settings.quota, work=work)
    return _Services(
        media=MediaServicer(
            intake,
            shelf,
            Stewardship(database, blobs, sweeper, clock),
            arrivals,
            Backup(database, blobs, clock, work),
        ),
        knowledge=KnowledgeServicer(),
    )


async def _identity(settings: Settings, clock: Clock, health: Health, stack: AsyncExitStack) -> Authenticator:
    """Who calls: rooms by the keys of the mesh, people by the keys that the feed names."""
    keys, grants, revocations = KeySet(), KeySet(), Revocations(clock)
    key = load_or_create_key(settings.keys_dir / f"{ROOM}.key")
    identity = RoomIdentity(ROOM, Signer(key, room_issuer(ROOM), room_issuer(ROOM)), clock)
    channel = await stack.enter_async_context(
        open_channel(
            settings.context,
            identity=identity,
            callee=peers.CALLEE,
            certificates=certificates.read(settings.tls_dir, ROOM),
        )
    )
    feed, trust = peers.RevocationFeed(channel), Trust(keys, revocations, clock, grants=grants)
    tasks = await stack.enter_async_context(Tasks())
    following = follow(feed.open, trust, clock, lambda heard: health.set(FEED, heard))
    tasks.spawn("follow the revocation feed", following)
    users = Verifier(keys, _USER_ISSUER, _USER_AUDIENCE, USER_TOKEN, clock)
    rooms = Verifier(_rooms(settings.keys_dir), None, ROOM, ROOM_TOKEN, clock, session=False)
    leave = grant_verifier(grants, _USER_ISSUER, ROOM, clock)
    return Authenticator(users, rooms, revocations, clock, grants=leave)


def _rooms(folder: Path) -> KeySet:
    return KeySet(json.loads((folder / "rooms.jwks").read_text())["keys"])


def _database_url(settings: Settings) -> str:
    return settings.database.get_secret_value() or f"sqlite://{(settings.data_dir / 'media.db').absolute()}"
