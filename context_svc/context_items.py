"""The context of a person and of a session: read, merged, deleted, expired. One unit of work each.

A scope's row is its lock; for a session's scope the session's row is locked before it, as its log will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from context_svc import item_rows, repeats
from context_svc import session_rows as sessions
from context_svc.consents import Consent, Kind
from context_svc.device_context import consents, is_location, item_key
from context_svc.errors import ConsentMissing, SessionEnded, SessionNotFound, SessionSealed, VersionMismatch
from context_svc.item_rows import ScopeRow, Selection
from context_svc.items import (
    DEVICE_PREFIX,
    Author,
    Filling,
    Item,
    ItemState,
    ItemWrite,
    Placement,
    Scope,
    Source,
    Tombstone,
    filled,
    merge,
)
from context_svc.repeats import Command
from context_svc.session_rows import Session, SessionState
from context_svc.sessions import Then

LOCATION_KEEP_US = 30 * 24 * 3600 * 1_000_000


class ContextLog(Protocol):
    """The log of a session, as far as its context goes into it."""

    def context_changed(self, session_id: str, version: int, keys: Sequence[str]) -> Unit[Then]:
        """Part of a unit: append ContextChanged."""


class Bell(Protocol):
    """Tells whoever watches a scope that it changed."""

    def ring(self, scope_id: str) -> None:
        """The scope has changed, durably. Must not raise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What a device measured of one kind. `value` is compact JSON; absent time: when it came."""

    kind: Kind
    value: Callable[[int], str]
    measure_us: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What a person's device writes. `author` is completed with the device of the sign-in."""

    command: Command
    scope: Scope
    writes: tuple[ItemWrite, ...]
    measurements: tuple[Measurement, ...] = ()
    expected_version: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """What a person takes away."""

    command: Command
    scope: Scope
    selection: Selection
    expected_version: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """What one commit did to a scope."""

    scope: Scope
    version: int
    items: tuple[Item, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """Items in order, and the versions of the scopes that were read; None: not read."""

    items: tuple[Item, ...]
    user_version: int | None = None
    session_version: int | None = None


class Answers(Protocol):
    """How answers are written, so that the first one can be given again byte for byte."""

    def updated(self, changed: Changed) -> bytes:
        """A serialised UpdateContextResponse."""

    def deleted(self, changed: Changed) -> bytes:
        """A serialised DeleteContextItemsResponse."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    answer: bytes
    scope_id: str = ""
    thens: tuple[Then, ...] = ()


class ContextItems:
    """What is known. Another person's session is not found."""

    def __init__(
        self, *, database: Database, clock: Clock, log: ContextLog, bell: Bell, answers: Answers
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._bell = bell
        self._answers = answers

    async def read(self, user: User, scope: Scope, selection: Selection, *, with_user: bool) -> Read:
        """Items that have not expired, the user's first. Raises SessionNotFound and SessionSealed."""
        now_us = self._clock.now_us()
        return await self._database.read(lambda: _read(user, scope, selection, with_user, now_us))

    async def update(self, user: User, change: Update) -> bytes:
        """Merge by key, all or nothing; the serialised answer.

        Raises VersionMismatch, ContextSourceForbidden, ConsentMissing, QuotaExceeded, IdempotencyKeyReused,
        SessionNotFound, SessionEnded and SessionSealed.
        """
        now_us = self._clock.now_us()
        return await self._write(change.scope, lambda: self._update(user, change, now_us))

    async def delete(self, user: User, deletion: Deletion) -> bytes:
        """Delete what is there of a selection; the serialised answer.

        Raises VersionMismatch, IdempotencyKeyReused, SessionNotFound and SessionSealed.
        """
        now_us = self._clock.now_us()
        return await self._write(deletion.scope, lambda: self._delete(deletion, now_us))

    async def expire(self) -> None:
        """Bury what has expired, in every scope."""
        now_us = self._clock.now_us()
        for scope in await self._database.read(lambda: item_rows.scopes_with_due(now_us)):
            await self._write(scope, lambda scope=scope: self._expire(scope, now_us))  # type: ignore[misc]

    async def forget(self) -> None:
        """Remove tombstones older than 30 days and answers older than a day."""
        now_us = self._clock.now_us()
        await self._database.write("context", lambda: item_rows.forget_tombstones(now_us))
        await self._database.write("context", lambda: repeats.forget(now_us))

    def put(self, scope: Scope, writes: Sequence[ItemWrite], now_us: int) -> Unit[Then]:
        """Part of a unit: write for a tool or the model, whose session's row the unit has locked.

        Raises ContextSourceForbidden for what a person or a device wrote, and QuotaExceeded.
        """
        row = yield from item_rows.lock(scope)
        changed, thens = yield from self._merge(scope, row, writes, now_us)
        outcome = _Outcome(b"", scope.id if changed.items else "", thens)
        return lambda: self._announce(outcome)

    def obey(self, account_id: str, device_id: str, decided: Sequence[Consent], now_us: int) -> Unit[Then]:
        """Part of a unit: let what a device stored follow the person's decisions.

        What lost its consent is deleted; the rest is marked where it may be processed from now on.
        """
        if not decided:
            return lambda: None
        scope = Scope(account_id=account_id)
        taken = tuple(item_key(device_id, each.kind) for each in decided if not each.granted)
        marks = {item_key(device_id, each.kind): each.placement for each in decided if each.granted}
        row = yield from item_rows.lock(scope)
        outcomes = []
        if taken:
            selection = Selection(keys=taken)
            outcomes.append((yield from self._bury(scope, row.version, row.filling, selection, now_us)))
        if marks:
            selection = Selection(keys=tuple(marks))
            change = partial(_marked, marks=marks)
            outcomes.append((yield from self._rewrite(scope, selection, change, now_us)))

        def then() -> None:
            for outcome in outcomes:
                self._announce(outcome)

        return then

    def keep_locations(self, account_id: str, keep_us: int | None, now_us: int) -> Unit[Then]:
        """Part of a unit: let the positions that are stored end by another rule; None: not at all."""
        outcome = yield from self._rewrite(
            Scope(account_id=account_id),
            Selection(prefix=DEVICE_PREFIX),
            partial(_kept, keep_us=keep_us),
            now_us,
        )
        return lambda: self._announce(outcome)

    async def _write(self, scope: Scope, unit: Callable[[], Unit[_Outcome]]) -> bytes:
        outcome = await self._database.write(scope.id, unit, committed=self._announce)
        return outcome.answer

    def _announce(self, outcome: _Outcome) -> None:
        for then in outcome.thens:
            then()
        if outcome.scope_id:
            self._bell.ring(outcome.scope_id)

    def _update(self, user: User, change: Update, now_us: int) -> Unit[_Outcome]:
        session = yield from _locked_session(change.scope)
        row = yield from item_rows.lock(change.scope)
        if (earlier := (yield from repeats.answered(change.command))) is not None:
            blank = self._answers.updated(Changed(scope=change.scope, version=earlier.version))
            return _Outcome(blank if earlier.answer is None else earlier.answer)
        if session is not None and session.state is SessionState.ENDED:
            raise SessionEnded
        _require(change.expected_version, row.version)
        writes = yield from _completed(user, change, now_us)
        changed, thens = yield from self._merge(change.scope, row, writes, now_us)
        answer = self._answers.updated(changed)
        yield from repeats.remember(
            change.command, answer, version=changed.version, now_us=now_us, scope_id=change.scope.id
        )
        return _Outcome(answer, change.scope.id if changed.items else "", thens)

    def _merge(
        self, scope: Scope, row: ScopeRow, writes: Sequence[ItemWrite], now_us: int
    ) -> Unit[tuple[Changed, tuple[Then, ...]]]:
        """Merge by key under one new version; whatever has expired is buried with it."""
        gone = yield from item_rows.due(scope.id, now_us)
        there = yield from item_rows.live(scope, Selection(keys=tuple(each.key for each in writes)), now_us)
        version = row.version + 1
        made = merge({each.key: each for each in there}, writes, version=version, now_us=now_us)
        made = tuple(replace(each, session_id=scope.session_id) for each in made)
        if not made:
            return Changed(scope=scope, version=row.version), ()
        replaced = [each for each in there if each.key in {one.key for one in made}]
        filling = filled(row.filling, [*gone, *replaced], made)
        tombs = yield from _entomb(scope, gone, ItemState.EXPIRED, version, now_us)
        yield from item_rows.store(scope.id, made)
        yield from item_rows.update(scope.id, version, filling)
        changed = Changed(scope=scope, version=version, items=made, tombstones=tombs)
        return changed, (yield from self._told(changed))

    def _delete(self, deletion: Deletion, now_us: int) -> Unit[_Outcome]:
        yield from _locked_session(deletion.scope)
        row = yield from item_rows.lock(deletion.scope)
        if (earlier := (yield from repeats.answered(deletion.command))) is not None:
            return _Outcome(earlier.answer or b"")
        _require(deletion.expected_version, row.version)
        outcome = yield from self._bury(deletion.scope, row.version, row.filling, deletion.selection, now_us)
        version = row.version + bool(outcome.scope_id)
        yield from repeats.remember(deletion.command, outcome.answer, version=version, now_us=now_us)
        return outcome

    def _bury(
        self, scope: Scope, version: int, filling: Filling, selection: Selection, now_us: int
    ) -> Unit[_Outcome]:
        gone = yield from item_rows.live(scope, selection, now_us)
        if not gone:
            return _Outcome(self._answers.deleted(Changed(scope=scope, version=version)))
        version += 1
        tombs = yield from _entomb(scope, gone, ItemState.DELETED, version, now_us)
        yield from item_rows.update(scope.id, version, filled(filling, gone, ()))
        changed = Changed(scope=scope, version=version, tombstones=tombs)
        thens = yield from self._told(changed)
        return _Outcome(self._answers.deleted(changed), scope.id, thens)

    def _expire(self, scope: Scope, now_us: int) -> Unit[_Outcome]:
        if scope.session_id and (yield from sessions.lock(scope.session_id, scope.account_id)) is None:
            return _Outcome(b"")
        row = yield from item_rows.lock(scope)
        gone = yield from item_rows.due(scope.id, now_us)
        if not gone:
            return _Outcome(b"")
        version = row.version + 1
        tombs = yield from _entomb(scope, gone, ItemState.EXPIRED, version, now_us)
        yield from item_rows.update(scope.id, version, filled(row.filling, gone, ()))
        thens = yield from self._told(Changed(scope=scope, version=version, tombstones=tombs))
        return _Outcome(b"", scope.id, thens)

    def _rewrite(
        self, scope: Scope, selection: Selection, change: Callable[[Item], Item], now_us: int
    ) -> Unit[_Outcome]:
        """Change what the server itself decides about stored items, under one new version."""
        row = yield from item_rows.lock(scope)
        there = yield from item_rows.live(scope, selection, now_us)
        changed = [new for old in there if (new := change(old)) != old]
        if not changed:
            return _Outcome(b"")
        made = [replace(each, version=row.version + 1) for each in changed]
        yield from item_rows.store(scope.id, made)
        yield from item_rows.update(scope.id, row.version + 1, row.filling)
        return _Outcome(b"", scope.id)

    def _told(self, changed: Changed) -> Unit[tuple[Then, ...]]:
        if not changed.scope.session_id:
            return ()
        keys = sorted({each.key for each in changed.items} | {each.key for each in changed.tombstones})
        then = yield from self._log.context_changed(changed.scope.session_id, changed.version, keys)
        return (then,)


def require_scope(scope: Scope) -> Unit[None]:
    """Check that the scope is this person's to read. Raises SessionNotFound and SessionSealed."""
    if scope.session_id:
        _readable((yield from sessions.find(scope.session_id, scope.account_id)))


def _read(user: User, scope: Scope, selection: Selection, with_user: bool, now_us: int) -> Unit[Read]:
    yield from require_scope(scope)
    mine = Scope(account_id=user.account)
    scopes = [mine, scope] if with_user and scope.session_id else [scope]
    items: list[Item] = []
    versions: dict[bool, int] = {}
    for each in scopes:
        versions[bool(each.session_id)] = (yield from item_rows.find(each.id)).version
        items += yield from item_rows.live(each, selection, now_us)
    return Read(items=tuple(items), user_version=versions.get(False), session_version=versions.get(True))


def _locked_session(scope: Scope) -> Unit[Session | None]:
    if not scope.session_id:
        return None
    return _readable((yield from sessions.lock(scope.session_id, scope.account_id)))


def _readable(session: Session | None) -> Session:
    if session is None:
        raise SessionNotFound
    if session.sealed:
        raise SessionSealed
    return session


def _require(expected: int | None, version: int) -> None:
    if expected not in (None, version):
        raise VersionMismatch(metadata={"current": str(version)})


def _completed(user: User, change: Update, now_us: int) -> Unit[list[ItemWrite]]:
    """The writes with their device, and what the device measured as writes. Raises ConsentMissing."""
    rows = yield Statement("SELECT device_id FROM sign_in WHERE id = :id", {"id": user.sign_in})
    device = rows[0]["device_id"] if rows else ""
    writes = [
        replace(each, author=Author(source=each.author.source, device_id=device)) for each in change.writes
    ]
    if change.measurements:
        allowed = yield from consents(user.account, device)
        keep = yield from _location_keep(user.account)
        for each in change.measurements:
            if each.kind.number not in allowed:
                raise ConsentMissing(each.kind.label)
            measured = min(each.measure_us or now_us, now_us)  # a clock ahead must not hide what follows
            writes.append(
                ItemWrite(
                    key=item_key(device, each.kind),
                    value=each.value(measured),
                    author=Author(source=Source.DEVICE, device_id=device),
                    ttl_us=keep if each.kind is Kind.LOCATION else None,
                    placement=allowed[each.kind.number],
                    measure_us=measured,
                )
            )
    return writes


def _marked(item: Item, marks: Mapping[str, int]) -> Item:
    return replace(item, placement=Placement(marks[item.key]))


def _kept(item: Item, keep_us: int | None) -> Item:
    if not is_location(item.key):
        return item
    return replace(item, expire_us=None if keep_us is None else item.update_us + keep_us)


def _location_keep(account_id: str) -> Unit[int | None]:
    """How long a position is kept: what the person prefers, else 30 days; None: until deleted."""
    rows = yield Statement(
        "SELECT location_keep_us FROM preference WHERE account_id = :account", {"account": account_id}
    )
    chosen = rows[0]["location_keep_us"] if rows else None
    return LOCATION_KEEP_US if chosen is None else (chosen or None)


def _entomb(
    scope: Scope, gone: Sequence[Item], state: ItemState, version: int, now_us: int
) -> Unit[tuple[Tombstone, ...]]:
    keys = [each.key for each in gone]
    return (yield from item_rows.bury(scope.id, keys, state, version=version, now_us=now_us))
