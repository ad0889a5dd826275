"""Backups put together: what they need of this room, and the channel to media_svc."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.clock import Clock
from chassis.dial import open_channel
from chassis.serve import INTERNAL_MESSAGE
from context_svc.backups import Backups, Setting
from context_svc.foundation import Foundation
from context_svc.peers import MediaVault
from context_svc.program import program_version
from context_svc.signing import UserKeys
from context_svc.wire.session import is_private


@asynccontextmanager
async def safekeeping(foundation: Foundation) -> AsyncIterator[Backups]:
    """Backups of this mesh."""
    settings = foundation.settings
    async with open_channel(
        settings.media,
        identity=foundation.room,
        callee="media",
        max_message=INTERNAL_MESSAGE,
        certificates=foundation.certificates,
    ) as channel:
        setting = Setting(
            folder=settings.backups,
            data=settings.data_dir,
            server_id=foundation.mesh.server_id,
            version=program_version(),
            is_private=is_private,
            renew_keys=lambda: _renew(settings.keys_dir / "users", foundation.clock),
            restart=foundation.restart,
        )
        backups = Backups(foundation.database, foundation.clock, MediaVault(channel), setting)
        foundation.tasks.spawn("keep backups tidy", backups.keep_tidy())
        yield backups


def _renew(keys: Path, clock: Clock) -> None:
    """From the next start on no token of before is good."""
    UserKeys(keys, clock).renew(now=True)
