"""Actions that this room performs itself, because it owns what they read and change.

The change and the ToolFinished that tells of it are one commit, conditional on the claim of the turn: an action that
is cut off changed nothing, and one that changed something says so. One that fails changes nothing and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from chassis.clock import Clock
from chassis.database import Database, Unit
from chassis.errors import ServiceError, StoreUnavailable
from context_svc.claims import Claim, Claims, still_held
from context_svc.errors import ActionNotFound, ArgumentsInvalid
from context_svc.jobs import Then
from context_svc.journal import Draft, Entry, Kind, Publish
from context_svc.leavings import Leavings, Left
from context_svc.run_frames import Call, Happened, HostCalled, audited, constant
from context_svc.runs import Material
from context_svc.turn_rows import lock_session

Arguments: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A call to perform. `zone` is the person's time zone, empty when it is not known."""

    material: Material
    call_id: str
    arguments: Arguments
    zone: str

    @property
    def claim(self) -> Claim:
        """The turn that asks."""
        return self.material.claim


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What an action answers, and what it left behind. `thens` are for the moment when it is durable."""

    content: str
    context_keys: tuple[str, ...] = ()
    job_ids: tuple[str, ...] = ()
    thens: tuple[Then | None, ...] = ()


Act: TypeAlias = Callable[[int], Unit[Told]]
"""The action itself: part of a unit that holds the turn and its session. Raises the ServiceErrors of what it does."""


class HostAction(Protocol):
    """One action of this room."""

    name: str

    async def begin(self, asked: Asked) -> Act:
        """Check the arguments, read what it takes long to find, and answer what is left to do. Raises ServiceError."""


class HostCodec(Protocol):
    """Reads calls, and writes their ends."""

    def arguments(self, call: HostCalled) -> Arguments:
        """The arguments of a call. Raises ArgumentsInvalid."""

    def host_done(self, call: HostCalled, told: Told, seconds: float) -> bytes:
        """A serialised ToolFinished of an action that did what was asked."""

    def host_failed(self, call: HostCalled, error: ServiceError, seconds: float) -> bytes:
        """A serialised ToolFinished of an action that failed."""

    def with_left(self, finished: bytes, context_keys: Iterable[str], job_ids: Iterable[str]) -> bytes:
        """A serialised ToolFinished that names what it left behind."""


@dataclass(frozen=True, slots=True)
class _Kept:
    entries: tuple[Entry, ...]
    finished: bytes
    thens: tuple[Then | None, ...]


class Hosting:
    """Performs calls, and keeps what actions leave behind. `zone_of` names the zone that a turn's items tell."""

    def __init__(
        self,
        *,
        database: Database,
        claims: Claims,
        codec: HostCodec,
        publish: Publish,
        clock: Clock,
        actions: Iterable[HostAction],
        leavings: Leavings,
        zone_of: Callable[[Material], str],
    ) -> None:
        self._database = database
        self._claims = claims
        self._codec = codec
        self._publish = publish
        self._clock = clock
        self._actions = {action.name: action for action in actions}
        self._leavings = leavings
        self._zone_of = zone_of

    async def perform(self, material: Material, call: HostCalled, agent: str) -> bytes:
        """Perform a call; its serialised ToolFinished, durable. Raises ClaimLost and StoreUnavailable."""
        began = self._clock.monotonic()

        def took() -> float:
            return self._clock.monotonic() - began

        try:
            action = self._actions.get(call.action)
            if action is None:
                raise ActionNotFound
            asked = Asked(
                material=material,
                call_id=call.id,
                arguments=self._codec.arguments(call),
                zone=self._zone_of(material),
            )
            act = await action.begin(asked)

            def acted(now_us: int) -> Unit[_Kept]:
                told = yield from act(now_us)
                return _Kept((), self._codec.host_done(call, told, took()), told.thens)

            return await self._keep(material.claim, acted, _call(call, agent, "done"))
        except StoreUnavailable:
            raise
        except ServiceError as error:
            failed = self._codec.host_failed(call, error, took())
            return await self._keep(material.claim, _nothing(failed), _call(call, agent, "failed"))

    async def leave(self, claim: Claim, happened: Happened, left: Left, ended: Call) -> bytes:
        """Keep what an action left behind with its ToolFinished, or that alone when a rule forbids the rest.

        Answers the ToolFinished. Raises ClaimLost and StoreUnavailable.
        """

        def kept(now_us: int) -> Unit[_Kept]:
            stored = yield from self._leavings.store(claim, ended.action, left, now_us)
            finished = self._codec.with_left(happened.payload, stored.context_keys, stored.job_ids)
            return _Kept((), finished, stored.thens)

        try:
            return await self._keep(claim, kept, ended)
        except StoreUnavailable:
            raise
        except ServiceError:
            return await self._keep(claim, _nothing(happened.payload), ended)

    async def _keep(self, claim: Claim, act: Callable[[int], Unit[_Kept]], ended: Call) -> bytes:
        now_us = self._clock.now_us()

        def unit() -> Unit[_Kept]:
            yield from lock_session(claim.session_id)
            yield from still_held(claim)
            kept = yield from act(now_us)
            draft = Draft(
                kind=Kind.TOOL_FINISHED,
                turn_id=claim.turn_id,
                payload=constant(kept.finished),
                audit=audited(ended, ended.agent, ended.outcome),
            )
            entries = yield from self._claims.append(claim, [draft], now_us)
            return _Kept(entries, kept.finished, kept.thens)

        def announce(kept: _Kept) -> None:
            for then in kept.thens:
                if then is not None:
                    then()
            self._publish(kept.entries)

        return (await self._database.write(claim.session_id, unit, committed=announce)).finished


def text(asked: Asked, field: str, *, default: str | None = None) -> str:
    """An argument of text. Raises ArgumentsInvalid."""
    value = asked.arguments.get(field, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise refused(field, "must be a text")
    return value.strip()


def refused(field: str, description: str) -> ArgumentsInvalid:
    """The failure of an action whose argument is of no use."""
    return ArgumentsInvalid.of(field, description)


def _nothing(finished: bytes) -> Callable[[int], Unit[_Kept]]:
    def act(_now_us: int) -> Unit[_Kept]:
        yield from ()
        return _Kept((), finished, ())

    return act


def _call(call: HostCalled, agent: str, outcome: str) -> Call:
    return Call(id=call.id, action=call.action, agent=agent, outcome=outcome)
