"""What the room stands on: its store, its keys, whom it believes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from chassis import certificates, engines
from chassis.auth import Revocations, RoomIdentity, room_issuer
from chassis.certificates import Certificates
from chassis.clock import Clock
from chassis.database import Database
from chassis.health import Health
from chassis.keys import load_or_create_key
from chassis.tasks import Tasks
from chassis.tokens import Signer
from context_svc import access
from context_svc.meta import Mesh, open_mesh
from context_svc.paging import PageTokens
from context_svc.revocations import Feed
from context_svc.rotation import Rotation
from context_svc.schema import MIGRATIONS
from context_svc.secret import ServerSecret
from context_svc.settings import ContextSettings
from context_svc.signing import UserKeys

ROOM = "context"


@dataclass(frozen=True, kw_only=True, slots=True)
class Foundation:
    """What both halves of the room stand on."""

    settings: ContextSettings
    clock: Clock
    database: Database
    tasks: Tasks
    mesh: Mesh
    secret: ServerSecret
    keys: UserKeys
    revocations: Revocations
    feed: Feed
    pages: PageTokens
    room: RoomIdentity
    certificates: Certificates | None
    health: Health


async def open_foundation(settings: ContextSettings, clock: Clock, stack: AsyncExitStack) -> Foundation:
    """Open the store and the keys. Raises what `context_svc.app.open_app` says."""
    for folder in (settings.data_dir, settings.keys_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = UserKeys(settings.keys_dir / "users", clock)
    secret = ServerSecret.load_or_create(settings.keys_dir / "context.secret")
    revocations = Revocations(clock, patience=None)
    opening = engines.connect(settings.database_url, schema=settings.database_schema, clock=clock)
    database = await stack.enter_async_context(opening)
    await database.migrate(MIGRATIONS)
    feed = Feed(clock, revocations, keys.announced)
    await feed.load(database)
    key_set = settings.keys_dir / "users.jwks"
    rotation = Rotation(database=database, clock=clock, keys=keys, feed=feed, key_set=key_set)
    await rotation.rotate()
    keys.publish(key_set)
    tasks = await stack.enter_async_context(Tasks())
    tasks.spawn("rotate the signing keys", rotation.run())
    return Foundation(
        settings=settings,
        clock=clock,
        database=database,
        tasks=tasks,
        mesh=await open_mesh(database),
        secret=secret,
        keys=keys,
        revocations=revocations,
        feed=feed,
        pages=PageTokens(secret.key("page tokens")),
        room=_room_identity(settings.keys_dir, clock),
        certificates=certificates.read(settings.tls_dir, ROOM),
        health=Health(access.SERVICES),
    )


def _room_identity(keys_dir: Path, clock: Clock) -> RoomIdentity:
    issuer = room_issuer(ROOM)
    signer = Signer(load_or_create_key(keys_dir / f"{ROOM}.key"), issuer, issuer)
    return RoomIdentity(ROOM, signer, clock)
