"""Sessions: the conversations of a person, as a list that every device shares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from chassis import failpoints, ids
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Unit
from chassis.errors import NotServed
from context_svc import session_rows as rows
from context_svc.errors import (
    IdempotencyKeyReused,
    QuotaExceeded,
    SessionEnded,
    SessionNotFound,
    UnknownModel,
    VersionMismatch,
)
from context_svc.paging import PageTokens, Query, page_size
from context_svc.session_rows import Session, SessionState, TitleSource
from context_svc.turn_rows import OpenTurn

QUOTA = 10_000
Then: TypeAlias = Callable[[], None]
Settle: TypeAlias = Callable[[str, bytes], Unit[bytes]]
Offers: TypeAlias = Callable[[str], Awaitable[bool]]
"""Part of a unit: the settings of a new session of an account, with what the person prefers in it."""
"""What to do on the event loop once the unit that answered it is durable; must not raise."""


class Journal(Protocol):
    """The log, as far as a session's own changes go into it."""

    def session_changed(self, session: Session, changed: tuple[str, ...]) -> Unit[Then]:
        """Part of a unit: append SessionChanged; `session` is already as it will be, `changed` names
        the fields.
        """


class Turns(Protocol):
    """The turns of sessions, as far as a list of sessions needs them."""

    def open_turns(self, sessions: Sequence[str]) -> Unit[Mapping[str, Sequence[OpenTurn]]]:
        """Part of a unit: the turns that are not over, oldest first, by session; none: no entry."""

    def cancel_all(self, session: str) -> Unit[Then]:
        """Part of a unit: make sure that every open turn of the session ends as cancelled."""

    def forget(self, session: str) -> Unit[Then]:
        """Part of a unit that deletes the session: let its running turns and its readers end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewSession:
    """What a client wants. `settings` is the serialised SessionSettings, `model` the one that they name, if any.

    With no id the server makes one.
    """

    id: str
    title: str
    settings: bytes
    sealed: bool
    private: bool = False
    model: str = ""

    def shape(self) -> str:
        """A digest of all that a repetition must have in common with the first request."""
        whole = json.dumps([self.title, self.settings.hex(), self.sealed]).encode()
        return hashlib.sha256(whole).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionChange:
    """New values; None leaves what is stored. `names` are the fields as the log will name them.

    `private` is what the new settings say.
    """

    title: str | None
    settings: bytes | None
    names: tuple[str, ...]
    private: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A session and its open turns."""

    session: Session
    open_turns: Sequence[OpenTurn]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of sessions; `next_token` is empty at the end."""

    sessions: Sequence[Listed]
    next_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """Where a session stands, and the last sequence that the asking device acknowledged."""

    listed: Listed
    acknowledged: int


class Sessions:
    """Creates, reads, changes and ends sessions. Another person's session is not found."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        pages: PageTokens,
        journal: Journal,
        turns: Turns,
        settle: Settle | None = None,
        is_private: Callable[[bytes], bool] = lambda _settings: False,
        offers: Offers | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages
        self._journal = journal
        self._turns = turns
        self._settle = settle
        self._is_private = is_private
        self._offers = offers

    async def create(self, user: User, new: NewSession) -> Listed:
        """A session, or the one that the same request made before.

        Raises IdempotencyKeyReused when the id names a session of another shape or person, QuotaExceeded,
        UnknownModel, and NotServed for a sealed one.
        """
        if new.sealed:
            raise NotServed("sealed sessions")
        unknown = await self._unknown(new.model)
        session_id, now_us = new.id or ids.uuid(), self._clock.now_us()
        return await self._database.write(
            session_id, lambda: self._create(user, session_id, new, unknown, now_us)
        )

    async def get(self, user: User, session_id: str) -> Listed:
        """One session. Raises SessionNotFound."""
        return await self._database.read(lambda: self._get(user, session_id))

    async def list_page(self, user: User, *, size: int, token: str, open_only: bool) -> Page:
        """A page, newest activity first. Raises PageTokenInvalid."""
        query = Query(account=user.account, name="sessions", filters={"open_only": open_only})
        after = self._pages.read(query, token, (int, str))
        limit = page_size(size)
        found = await self._database.read(lambda: self._list(user, after, limit + 1, open_only))
        page = found[:limit]
        more = len(found) > limit
        last = page[-1].session if page else None
        return Page(
            sessions=page,
            next_token=self._pages.issue(query, (last.update_us, last.id)) if more and last else "",
        )

    async def update(
        self,
        user: User,
        session_id: str,
        change: Callable[[Session], SessionChange],
        *,
        expected_version: int,
        model: str = "",
    ) -> Listed:
        """Change title or settings; `change` sees the stored session and must be pure. `model` is the one it names.

        Raises SessionNotFound, UnknownModel, and VersionMismatch unless `expected_version` is 0 or the stored one.
        """
        unknown = await self._unknown(model)
        return await self._changing(
            session_id,
            lambda now_us: self._update(user, session_id, change, expected_version, unknown, now_us),
        )

    async def resume(self, user: User, session_id: str) -> Resumed:
        """Where the session stands for this device. Raises SessionNotFound and SessionEnded."""
        return await self._database.read(lambda: self._resume(user, session_id))

    async def end(self, user: User, session_id: str) -> Listed:
        """End a session and cancel its turns; an ended one stays as it is. Raises SessionNotFound."""
        return await self._changing(session_id, lambda now_us: self._end(user, session_id, now_us))

    async def delete(self, user: User, session_id: str, *, allow_missing: bool) -> None:
        """Delete a session with everything in it, also from the store's files.

        Raises SessionNotFound, unless `allow_missing`.
        """
        try:
            await self._database.write(
                session_id, lambda: self._delete(user, session_id), committed=lambda then: then()
            )
            await self._database.scrub()
        except SessionNotFound:
            if not allow_missing:
                raise

    async def _changing(
        self, session_id: str, unit: Callable[[int], Unit[tuple[Listed, Sequence[Then]]]]
    ) -> Listed:
        now_us = self._clock.now_us()
        listed, _ = await self._database.write(session_id, lambda: unit(now_us), committed=_perform)
        return listed

    async def _unknown(self, model: str) -> UnknownModel | None:
        """What is wrong with a model that is named, if anything. A repeated request is answered all the same."""
        offered = not model or self._offers is None or await self._offers(model)
        return None if offered else UnknownModel(model)

    def _create(
        self, user: User, session_id: str, new: NewSession, unknown: UnknownModel | None, now_us: int
    ) -> Unit[Listed]:
        existing = yield from rows.find_shape(session_id)
        if existing is not None:
            if existing != (user.account, new.shape()):
                raise IdempotencyKeyReused
            return (yield from self._get(user, session_id))
        if unknown is not None:
            raise unknown
        if not (yield from rows.count_one_more(user.account, QUOTA)):
            raise QuotaExceeded(quota="sessions")
        settings = new.settings
        if self._settle is not None:
            settings = yield from self._settle(user.account, settings)
        session = yield from rows.insert(
            session_id,
            account=user.account,
            sign_in=user.sign_in,
            title=new.title,
            settings=settings,
            private=new.private or self._is_private(settings),
            shape=new.shape(),
            now_us=now_us,
        )
        return Listed(session=session, open_turns=())

    def _get(self, user: User, session_id: str) -> Unit[Listed]:
        session = yield from rows.find(session_id, user.account)
        if session is None:
            raise SessionNotFound
        return (yield from self._with_turns([session]))[0]

    def _list(
        self, user: User, after: Sequence[str | int] | None, limit: int, open_only: bool
    ) -> Unit[list[Listed]]:
        found = yield from rows.page(user.account, after, limit, open_only)
        return (yield from self._with_turns(found))

    def _update(
        self,
        user: User,
        session_id: str,
        change: Callable[[Session], SessionChange],
        expected_version: int,
        unknown: UnknownModel | None,
        now_us: int,
    ) -> Unit[tuple[Listed, Sequence[Then]]]:
        session = yield from self._locked(user, session_id)
        if expected_version not in (0, session.version):
            raise VersionMismatch(metadata={"current": str(session.version)})
        wanted = change(session)
        title = session.title if wanted.title is None else wanted.title
        settings = session.settings if wanted.settings is None else wanted.settings
        if (title, settings) == (session.title, session.settings):
            return (yield from self._get(user, session_id)), ()
        if unknown is not None:
            raise unknown
        source = session.title_source if wanted.title is None else _source(title)
        changed = yield from rows.update(
            session_id,
            title=title,
            title_source=source,
            settings=settings,
            now_us=now_us,
            private=wanted.private,
        )
        then = yield from self._journal.session_changed(changed, wanted.names)
        return (yield from self._get(user, session_id)), (then,)

    def _end(self, user: User, session_id: str, now_us: int) -> Unit[tuple[Listed, Sequence[Then]]]:
        session = yield from self._locked(user, session_id)
        if session.state is SessionState.ENDED:
            return (yield from self._get(user, session_id)), ()
        ended = yield from rows.end(session_id, now_us)
        cancelled = yield from self._turns.cancel_all(session_id)
        then = yield from self._journal.session_changed(ended, ("state",))
        return (yield from self._get(user, session_id)), (cancelled, then)

    def _delete(self, user: User, session_id: str) -> Unit[Then]:
        session = yield from self._locked(user, session_id)
        then = yield from self._turns.forget(session_id)
        failpoints.reach("mid_erase_step")
        yield from rows.delete(session)
        return then

    def _resume(self, user: User, session_id: str) -> Unit[Resumed]:
        listed = yield from self._get(user, session_id)
        if listed.session.state is SessionState.ENDED:
            raise SessionEnded
        acknowledged = yield from rows.acknowledged(session_id, user.sign_in)
        return Resumed(listed=listed, acknowledged=acknowledged)

    def _locked(self, user: User, session_id: str) -> Unit[Session]:
        session = yield from rows.lock(session_id, user.account)
        if session is None:
            raise SessionNotFound
        return session

    def _with_turns(self, found: Sequence[Session]) -> Unit[list[Listed]]:
        turns = yield from self._turns.open_turns([session.id for session in found])
        return [Listed(session=session, open_turns=turns.get(session.id, ())) for session in found]


def _source(title: str) -> TitleSource:
    return TitleSource.USER if title else TitleSource.UNSPECIFIED


def _perform(outcome: tuple[Listed, Sequence[Then]]) -> None:
    for then in outcome[1]:
        then()
