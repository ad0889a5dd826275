"""How an account leaves: composed of its jobs and what it asks of media_svc."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chassis.auth import RoomIdentity
from chassis.certificates import Certificates
from chassis.clock import Clock
from chassis.database import Database
from chassis.dial import open_channel
from context_svc.applying import ApplyImport
from context_svc.books import Books
from context_svc.deletions import EraseAccount, Erasures, OpenTurns
from context_svc.exports import Exports
from context_svc.grants import Grants
from context_svc.imports import ForgetImport, Imports
from context_svc.jobs import Kind
from context_svc.meta import Mesh
from context_svc.peers import MediaPeer
from context_svc.revocations import Feed
from context_svc.secret import ServerSecret
from context_svc.settings import ContextSettings
from context_svc.setup_code import SetupCode
from context_svc.wire.archive import ArchiveLines, ArchiveRecords


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaving:
    """What the doors call, and the kinds of job that do the work."""

    erasures: Erasures
    exports: Exports
    imports: Imports
    kinds: Sequence[Kind]


@asynccontextmanager
async def leaving(
    *,
    database: Database,
    clock: Clock,
    settings: ContextSettings,
    mesh: Mesh,
    secret: ServerSecret,
    room: RoomIdentity,
    certificates: Certificates | None,
    grants: Grants,
    books: Books,
    turns: OpenTurns,
    feed: Feed,
) -> AsyncIterator[Leaving]:
    """Open the way to media_svc, and compose the rest."""
    work = settings.data_dir / "context-work"
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with open_channel(
        settings.media, identity=room, callee="media", certificates=certificates
    ) as channel:
        peer = MediaPeer(channel, grants)
        yield Leaving(
            erasures=Erasures(database, clock, turns, feed),
            exports=Exports(
                database,
                clock,
                peer,
                ArchiveLines(),
                server_id=mesh.server_id,
                per_hour=settings.exports_per_hour,
            ),
            imports=Imports(database, clock, limit=settings.import_limit),
            kinds=(
                EraseAccount(
                    database,
                    turns,
                    peer,
                    SetupCode(database, clock, secret.key("set-up code")),
                    books.index.clean,
                ),
                ForgetImport(database, clock),
                ApplyImport(
                    database,
                    clock,
                    peer,
                    ArchiveRecords(),
                    books.indexing,
                    log_epoch=mesh.log_epoch,
                    work=work,
                ),
            ),
        )
