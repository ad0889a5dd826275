"""A person's preferences: their own layer, what they accepted of suggestions, and what sessions say besides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Unit
from context_svc import preference_rows as rows
from context_svc import repeats
from context_svc import session_rows as sessions
from context_svc.consents import Then
from context_svc.errors import PeerUnavailable, SessionNotFound, UnknownModel, VersionMismatch
from context_svc.preference_rows import Stored
from context_svc.repeats import Command


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """What speaks for a session, serialised; `session` is None where no session was asked for."""

    stored: Stored
    session: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceChange:
    """A change of the person's own layer; `apply` is pure."""

    command: Command
    apply: Callable[[bytes], bytes]
    model: str = ""  # the one that it names, if any
    expected_version: int | None = None


class PreferenceCodec(Protocol):
    """Reads and writes what is stored."""

    def updated(self, stored: Stored) -> bytes:
        """A serialised UpdatePreferencesResponse."""

    def location_keep_us(self, stored: Stored) -> int | None:
        """For how many microseconds positions are kept; None: until deleted."""

    def accepted(self, before: bytes, field: str, value: str) -> bytes:
        """The layer of accepted suggestions with one more in it."""

    def settled(self, settings: bytes, stored: Stored) -> bytes:
        """The settings of a new session, with what they leave open and only its beginning can decide."""


class Catalogue(Protocol):
    """The models that can answer."""

    async def knows(self, model: str) -> bool:
        """Whether it is one. Raises PeerUnavailable."""


class LocationKeeping(Protocol):
    """Changes how long stored positions are kept."""

    def __call__(self, account_id: str, keep_us: int | None, now_us: int, /) -> Unit[Then]:
        """Part of a unit."""


class Preferences:
    """Reads and changes them."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        codec: PreferenceCodec,
        keep_locations: LocationKeeping,
        catalogue: Catalogue,
    ) -> None:
        self._database = database
        self._clock = clock
        self._codec = codec
        self._keep_locations = keep_locations
        self._catalogue = catalogue

    async def layers(self, user: User, session_id: str) -> Layers:
        """What speaks for a session, or for one that says nothing itself. Raises SessionNotFound."""
        return await self._database.read(lambda: _layers(user, session_id))

    async def update(self, user: User, change: PreferenceChange) -> bytes:
        """Change the person's own layer; the serialised answer.

        Raises VersionMismatch, UnknownModel and IdempotencyKeyReused.
        """
        if change.model and not await self.offers(change.model):
            raise UnknownModel(change.model)
        now_us = self._clock.now_us()
        answer, _ = await self._database.write(
            user.account, lambda: self._update(user, change, now_us), committed=lambda outcome: outcome[1]()
        )
        return answer

    def accept(self, account_id: str, field: str, value: str, now_us: int) -> Unit[None]:
        """Part of a unit: add what a suggestion proposed to its layer."""
        stored = yield from rows.lock(account_id, now_us)
        new = replace(stored, accepted=self._codec.accepted(stored.accepted, field, value))
        yield from rows.store(
            account_id, new, location_keep_us=self._codec.location_keep_us(new), now_us=now_us
        )

    async def offers(self, model: str) -> bool:
        """Whether the model can answer; while nobody can tell, it may: turns pass over what is not there."""
        try:
            return await self._catalogue.knows(model)
        except PeerUnavailable:
            return True

    def settle(self, account_id: str, settings: bytes) -> Unit[bytes]:
        """Part of a unit: the settings of a session that begins now."""
        return self._codec.settled(settings, (yield from rows.find(account_id)))

    def _update(self, user: User, change: PreferenceChange, now_us: int) -> Unit[tuple[bytes, Then]]:
        stored = yield from rows.lock(user.account, now_us)
        if (earlier := (yield from repeats.answered(change.command))) is not None:
            return earlier.answer or b"", _nothing
        if change.expected_version not in (None, stored.version):
            raise VersionMismatch(metadata={"current": str(stored.version)})
        new = replace(stored, own=change.apply(stored.own), version=stored.version + 1)
        kept, keep = self._codec.location_keep_us(stored), self._codec.location_keep_us(new)
        yield from rows.store(user.account, new, location_keep_us=keep, now_us=now_us)
        then = _nothing
        if kept != keep:
            then = yield from self._keep_locations(user.account, keep, now_us)
        answer = self._codec.updated(new)
        yield from repeats.remember(change.command, answer, version=new.version, now_us=now_us)
        return answer, then


def _layers(user: User, session_id: str) -> Unit[Layers]:
    session = None
    if session_id:
        session = yield from sessions.find(session_id, user.account)
        if session is None:
            raise SessionNotFound
    stored = yield from rows.find(user.account)
    return Layers(stored=stored, session=None if session is None else session.settings)


def _nothing() -> None:
    """What is to be done after a commit that changed no context."""
