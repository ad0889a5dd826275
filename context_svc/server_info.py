"""What this server tells anybody who asks: who it is, what it can do, where its limits are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from chassis.clock import Clock
from context_svc.accounts import Accounts
from context_svc.meta import Mesh


class RegistrationMode(IntEnum):
    """What Register needs; the numbers are the contract's."""

    SETUP_CODE = 1
    INVITE = 2
    OPEN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of this server; the contract's ServerLimits has the meaning of each."""

    message_characters: int = 100_000
    client_metadata_bytes: int = 4_096
    batch_messages: int = 100
    context_value_bytes: int = 65_536
    context_scope_bytes: int = 1_048_576
    context_keys: int = 1_000
    image_bytes: int = 25 * 1024 * 1024
    image_pixels: int = 40_000_000
    audio_bytes: int = 100 * 1024 * 1024
    audio_duration: timedelta = timedelta(hours=2)
    document_bytes: int = 100 * 1024 * 1024
    chunk_bytes: int = 256 * 1024
    page_size: int = 200
    subscription_cursors: int = 200
    messages_per_minute: int = 300
    turns_per_minute: int = 20
    uploads_per_hour: int = 60
    heartbeat_interval: timedelta = timedelta(seconds=15)
    answer_wait: timedelta = timedelta(hours=24)
    unclaimed_upload_ttl: timedelta = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """One answer. `server_time_us` in microseconds since 1970."""

    server_id: str
    server_name: str
    version: str
    server_time_us: int
    registration: RegistrationMode
    limits: Limits


def registration_mode(*, accounts_exist: bool, open_registration: bool) -> RegistrationMode:
    """What a new account needs at the moment."""
    if not accounts_exist:
        return RegistrationMode.SETUP_CODE
    return RegistrationMode.OPEN if open_registration else RegistrationMode.INVITE


class Introduction:
    """Answers who this server is."""

    def __init__(
        self,
        *,
        mesh: Mesh,
        name: str,
        version: str,
        clock: Clock,
        accounts: Accounts,
        open_registration: bool,
        limits: Limits | None = None,
    ) -> None:
        self._mesh = mesh
        self._name = name
        self._version = version
        self._clock = clock
        self._accounts = accounts
        self._open = open_registration
        self._limits = limits or Limits()

    async def read(self) -> ServerInfo:
        """What is true now."""
        exist = await self._accounts.exist()
        return ServerInfo(
            server_id=self._mesh.server_id,
            server_name=self._name,
            version=self._version,
            server_time_us=self._clock.now_us(),
            registration=registration_mode(accounts_exist=exist, open_registration=self._open),
            limits=self._limits,
        )
