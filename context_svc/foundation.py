"""What the halves of the room stand on, and what one tells the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chassis.auth import Revocations, RoomIdentity
from chassis.certificates import Certificates
from chassis.clock import Clock
from chassis.database import Database
from chassis.health import Health
from chassis.serve import Drain, Register
from chassis.tasks import Tasks
from context_svc import sessions
from context_svc.consents import Obey
from context_svc.leaving import Leaving
from context_svc.meta import Mesh
from context_svc.paging import PageTokens
from context_svc.revocations import Feed
from context_svc.secret import ServerSecret
from context_svc.settings import ContextSettings
from context_svc.signing import UserKeys

ROOM = "context"
DOMAIN = "assistant.mesh"


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
    restart: Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """The half of the room that owns the log: what sessions need of it, and its services.

    `drain` is awaited when the room is told to stop, before open calls are waited for. `in_band` names the
    methods whose stream messages its servicer checks itself.
    """

    journal: sessions.Journal
    turns: sessions.Turns
    open_streams: Callable[[], int]
    leaving: Leaving
    obey: Obey
    settle: sessions.Settle
    offers: sessions.Offers
    services: Sequence[Register] = ()
    drain: Drain | None = None
    in_band: frozenset[str] = field(default_factory=frozenset)
