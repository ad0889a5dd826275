"""The end of an account: decided in one commit that cannot be undone, then worked off by a job in every room.

::

    begin ──► sign-ins and tokens ended, turns cancelled, a job added       (one commit; then the answer)
    job ────► sessions, then every table of `estate`, then the store's files
         ───► media_svc says that it has erased its part
         ───► the account's own row goes, the job is done                   (one commit)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from chassis import ids, telemetry
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Statement, Unit
from chassis.errors import InvalidRequest, Violation
from context_svc import api_tokens, audit, estate, job_rows, throttle
from context_svc.accounts import by_id, email_key, hold
from context_svc.audit import Entry, Event
from context_svc.devices import device_of_sign_in
from context_svc.errors import AccountNotFound, PeerUnavailable
from context_svc.guard import Claim, Guard
from context_svc.job_rows import Job, NewJob
from context_svc.jobs import Done, Later, Limits, Result, Then
from context_svc.revocations import EndedAccount, EndedSignIn, Feed, forget_us
from context_svc.setup_code import SetupCode
from context_svc.signins import end_others

log = telemetry.logger(__name__)

KIND = "erase account"
WITHIN = timedelta(seconds=60)
AGAIN = 2.0  # seconds before media_svc is asked again


_OTHER_ADDRESS = Violation(
    field="confirm_email", description="is not the address of this account", rule="operator.confirm"
)


class MediaEraser(Protocol):
    """The part of an account that media_svc keeps."""

    async def erase(self, account: str, job_id: str) -> bool:
        """Erase it; False while something is left. Raises PeerUnavailable."""


class OpenTurns(Protocol):
    """The turns of sessions, as far as the end of an account needs them."""

    def cancel_all(self, session: str) -> Unit[Then]:
        """Part of a unit: make sure that every open turn of the session ends as cancelled."""

    def forget(self, session: str) -> Unit[Then]:
        """Part of a unit that deletes the session: let its running turns and its readers end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    deadline_us: int
    sign_ins: tuple[EndedSignIn, ...] = ()
    account: EndedAccount | None = None
    afterwards: tuple[Then, ...] = ()


class Erasures:
    """Ends accounts. Every end is in the audit log, under the id of the request."""

    def __init__(self, database: Database, clock: Clock, turns: OpenTurns, feed: Feed) -> None:
        self._database = database
        self._clock = clock
        self._turns = turns
        self._feed = feed

    async def by_person(self, user: User, guard: Guard, *, request_id: str, password: str) -> int:
        """End the caller's own account; by when everything of it is erased.

        Raises CredentialsWrong, LoginThrottled and HashingBusy.
        """
        known = await self._database.read(lambda: by_id(user.account))
        device = await self._database.read(lambda: device_of_sign_in(user.sign_in))
        if known is None or device is None:
            raise AccountNotFound
        claim = Claim(
            email_key=email_key(known.account.email),
            network="",
            account=user.account,
            stored=known.password_hash,
            device=device.id,
        )
        held = await guard.check(claim, password)

        def unit(now_us: int) -> Unit[_Begun]:
            yield from hold(known)
            yield from throttle.give_back(held)
            return (yield from self._begin(user.account, request_id, now_us))

        return await self._decide(user.account, unit)

    async def by_operator(self, account: str, *, request_id: str, confirm_email: str) -> int:
        """End an account, named once more by its address; again, it answers the same.

        Raises AccountNotFound and, for another address, InvalidRequest.
        """

        def unit(now_us: int) -> Unit[_Begun]:
            earlier = yield Statement(
                "SELECT deadline_us FROM deletion WHERE account_id = :account AND request_id = :request",
                {"account": account, "request": request_id},
            )
            if earlier:
                return _Begun(deadline_us=earlier[0]["deadline_us"])
            yield Statement("UPDATE account SET version = version WHERE id = :id", {"id": account})
            known = yield from by_id(account)
            if known is None or (yield from is_ending(account)):
                raise AccountNotFound
            if email_key(known.account.email) != email_key(confirm_email):
                raise InvalidRequest(violations=(_OTHER_ADDRESS,))
            return (yield from self._begin(account, request_id, now_us))

        return await self._decide(account, unit)

    async def _decide(self, account: str, unit: Callable[[int], Unit[_Begun]]) -> int:
        now_us = self._clock.now_us()
        begun = await self._database.write(account, lambda: unit(now_us), committed=self._begun)
        return begun.deadline_us

    def _begun(self, begun: _Begun) -> None:
        if begun.account is not None:
            self._feed.ended(begun.sign_ins, accounts=(begun.account,))
        for then in begun.afterwards:
            then()

    def _begin(self, account: str, request_id: str, now_us: int) -> Unit[_Begun]:
        deadline_us = now_us + round(WITHIN.total_seconds() * 1e6)
        sign_ins = yield from end_others(account, "", now_us)
        last_us = yield from api_tokens.last_end(account)
        tokens = yield from api_tokens.end_all(account, now_us)
        ended = EndedAccount(account=account, end_us=now_us, forget_us=forget_us(now_us, last_us))
        yield Statement(
            "INSERT INTO deletion (account_id, request_id, create_us, deadline_us, forget_us)"
            " VALUES (:account, :request, :now, :deadline, :forget)",
            {
                "account": account,
                "request": request_id,
                "now": now_us,
                "deadline": deadline_us,
                "forget": ended.forget_us,
            },
        )
        yield Statement(
            "UPDATE account SET blocked_us = :now, password_hash = '', version = version + 1 WHERE id = :id",
            {"id": account, "now": now_us},
        )
        yield from _work_off(account, now_us)
        afterwards = yield from self._stop_turns(account)
        yield from audit.append(
            Entry(event=Event.ACCOUNT_DELETED, at_us=now_us, account=account, subject=request_id)
        )
        return _Begun(
            deadline_us=deadline_us, sign_ins=(*sign_ins, *tokens), account=ended, afterwards=afterwards
        )

    def _stop_turns(self, account: str) -> Unit[tuple[Then, ...]]:
        rows = yield Statement(
            "SELECT DISTINCT session_id FROM turn WHERE state < 5 AND account_id = :account ORDER BY session_id",
            {"account": account},
        )
        afterwards = []
        for row in rows:
            yield Statement("UPDATE session SET version = version WHERE id = :id", {"id": row["session_id"]})
            afterwards.append((yield from self._turns.cancel_all(row["session_id"])))
        return tuple(afterwards)


class EraseAccount:
    """The kind of job that erases an account. It is done only when media_svc has said so too."""

    name = KIND
    limits = Limits(tries=0, seconds=600.0)

    def __init__(
        self,
        database: Database,
        turns: OpenTurns,
        media: MediaEraser,
        setup_code: SetupCode,
        clean: Callable[[], Unit[bool]],
    ) -> None:
        self._database = database
        self._clean = clean
        self._setup_code = setup_code
        self._turns = turns
        self._media = media

    async def run(self, job: Job) -> Result:
        """See `context_svc.jobs.Kind`."""
        account = job.subject
        await self._content(account)
        try:
            erased = await self._media.erase(account, job.id)
        except PeerUnavailable as error:
            log.warning("media_svc has not erased an account yet", why=error.internal, job=job.id)
            erased = False
        return Done(lambda now_us: self._finish(account, now_us)) if erased else Later(AGAIN)

    async def _content(self, account: str) -> None:
        while sessions := await self._database.read(lambda: estate.sessions_of(account)):
            for session in sessions:
                await self._session(session)
        await self._database.write(account, lambda: _rest(account))
        await self._database.write(account, self._clean)  # what the index still has of words that are gone
        await self._database.scrub(whole=True)

    async def _session(self, session: str) -> None:
        await self._database.write(
            session, lambda: self._turns.forget(session), committed=lambda then: then()
        )
        while await self._database.write(session, lambda: estate.erase_session(session)):
            continue
        await self._database.write(session, lambda: _drop(session))

    def _finish(self, account: str, now_us: int) -> Unit[Then | None]:
        yield Statement("DELETE FROM account WHERE id = :account", {"account": account})
        yield Statement(
            "UPDATE deletion SET end_us = :now WHERE account_id = :account",
            {"now": now_us, "account": account},
        )
        yield from self._setup_code.renew(now_us)
        yield from audit.append(Entry(event=Event.ACCOUNT_ERASED, at_us=now_us, account=account))
        return None


def resume(now_us: int) -> Unit[None]:
    """Work off anew what a store that was put in the place of another has of accounts that were deleted."""
    rows = yield Statement(
        "SELECT d.account_id FROM deletion d JOIN account a ON a.id = d.account_id ORDER BY d.account_id"
    )
    for row in rows:
        yield from _work_off(row["account_id"], now_us)


def _work_off(account: str, now_us: int) -> Unit[None]:
    job = NewJob(id=ids.uuid(), kind=KIND, subject=account, run_us=now_us, horizon_us=1)
    yield from job_rows.add(job, now_us)


def is_ending(account: str) -> Unit[bool]:
    """Whether the account was deleted."""
    rows = yield Statement("SELECT 1 AS one FROM deletion WHERE account_id = :account", {"account": account})
    return bool(rows)


def _drop(session: str) -> Unit[None]:
    yield Statement("DELETE FROM session WHERE id = :session", {"session": session})


def _rest(account: str) -> Unit[None]:
    yield from estate.erase_rest(account)
    yield Statement(
        "UPDATE account SET email = '', email_key = :nobody, display_name = '', password_hash = '',"
        " session_count = 0 WHERE id = :account",
        {"account": account, "nobody": f"erased:{account}"},
    )
