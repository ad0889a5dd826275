"""Backups put together: what they need of this room, and the channel to media_svc."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.auth import RoomIdentity
from chassis.clock import Clock
from chassis.database import Database
from chassis.dial import open_channel
from chassis.serve import INTERNAL_MESSAGE
from chassis.tasks import Tasks
from context_svc.backups import Backups, Setting
from context_svc.meta import Mesh
from context_svc.peers import MediaVault
from context_svc.program import program_version
from context_svc.settings import ContextSettings
from context_svc.signing import UserKeys
from context_svc.wire.session import is_private


@asynccontextmanager
async def safekeeping(
    settings: ContextSettings,
    database: Database,
    clock: Clock,
    *,
    mesh: Mesh,
    room: RoomIdentity,
    tasks: Tasks,
    restart: Callable[[], None],
) -> AsyncIterator[Backups]:
    """Backups of this mesh; `restart` is called once another state is in place."""
    async with open_channel(
        settings.media, identity=room, callee="media", max_message=INTERNAL_MESSAGE
    ) as channel:
        setting = Setting(
            folder=settings.backups,
            data=settings.data_dir,
            server_id=mesh.server_id,
            version=program_version(),
            is_private=is_private,
            renew_keys=lambda: _renew(settings.keys_dir / "users", clock),
            restart=restart,
        )
        backups = Backups(database, clock, MediaVault(channel), setting)
        tasks.spawn("keep backups tidy", backups.keep_tidy())
        yield backups


def _renew(keys: Path, clock: Clock) -> None:
    """From the next start on no token of before is good."""
    UserKeys(keys, clock).renew(now=True)
