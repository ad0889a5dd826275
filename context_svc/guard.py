"""Looks at passwords under the throttle: so many wrong ones for an account from a network, then none.

A device that proves with its secret that it was signed in before has a bound of its own, so that strangers who
guess cannot lock a person out. An unknown address is counted and hashed like a known one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.database import Database, Unit
from context_svc import audit, throttle
from context_svc.audit import Entry, Event
from context_svc.errors import CredentialsWrong, HashingBusy, LoginThrottled, RateLimited
from context_svc.networks import LOCAL
from context_svc.passwords import Passwords
from context_svc.throttle import Bound, Exhausted, Reservation, Subjects

_LOGINS = timedelta(minutes=15)
_REGISTRATIONS = timedelta(hours=1)
_SPREAD = 10
"""How many times more one account, or one network, may see in all than one from the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Wrong passwords in 15 minutes for an account from a network; registrations in an hour from a network."""

    login_failures: int = 10
    registrations: int = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Somebody says that they are the person of an account. `device` is set when it was proved.

    `account` and `stored` (the hash of the password) are empty for an address without an account.
    """

    email_key: str
    network: str
    account: str = ""
    stored: str = ""
    device: str = ""


class Guard:
    """Checks passwords and admits registrations; what it counted, the caller's unit gives back."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        passwords: Passwords,
        subjects: Subjects,
        limits: Limits | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._subjects = subjects
        self._limits = limits or Limits()

    async def check(self, claim: Claim, password: str) -> Reservation:
        """The counted attempt of a good password, for `throttle.give_back`.

        Raises CredentialsWrong, LoginThrottled and HashingBusy.
        """
        bounds, now_us = self._bounds(claim), self._clock.now_us()
        held = await self._database.write("throttle", lambda: throttle.reserve(bounds, now_us))
        if isinstance(held, Exhausted):
            raise LoginThrottled(retry_after=held.retry_after, quota="failed sign-ins")
        try:
            matches = await self._passwords.verify(password, claim.stored or None)
        except HashingBusy:
            await self.give_back(held)
            raise
        if not matches:
            await self._failed(claim, limit_reached=held.reached)
            raise CredentialsWrong("wrong password" if claim.stored else "unknown address")
        return held

    async def admit(self, network: str) -> Reservation:
        """Count a registration. Raises RateLimited. Calls that came past the edge are not counted."""
        if network == LOCAL:
            return Reservation(bounds=(), at_us=self._clock.now_us(), reached=False)
        bound = self._bound(("register", network), self._limits.registrations, _REGISTRATIONS)
        now_us = self._clock.now_us()

        def unit() -> Unit[Reservation | Exhausted]:
            held = yield from throttle.reserve((bound,), now_us)
            if isinstance(held, Reservation) and held.reached:
                reached = Entry(event=Event.REGISTRATION_LIMIT_REACHED, at_us=now_us, network=network)
                yield from audit.append(reached)
            return held

        held = await self._database.write("throttle", unit)
        if isinstance(held, Exhausted):
            raise RateLimited(retry_after=held.retry_after, quota="registrations")
        return held

    async def give_back(self, held: Reservation) -> None:
        """What was counted was never looked at."""
        await self._database.write("throttle", lambda: throttle.give_back(held))

    def _bounds(self, claim: Claim) -> Sequence[Bound]:
        limit = self._limits.login_failures
        if claim.device:
            return (self._bound(("device", claim.account, claim.device), limit, _LOGINS),)
        pair = self._bound(("login", claim.email_key, claim.network), limit, _LOGINS)
        account = self._bound(("account", claim.email_key), limit * _SPREAD, _LOGINS)
        if claim.network == LOCAL:
            return (pair, account)
        return (pair, account, self._bound(("network", claim.network), limit * _SPREAD, _LOGINS))

    def _bound(self, parts: Sequence[str], limit: int, window: timedelta) -> Bound:
        return Bound(subject=self._subjects.name(*parts), limit=limit, window=window)

    async def _failed(self, claim: Claim, *, limit_reached: bool) -> None:
        now_us = self._clock.now_us()

        def unit() -> Unit[None]:
            yield from audit.append(_entry(Event.LOGIN_FAILED, claim, now_us))
            if limit_reached:
                yield from audit.append(_entry(Event.LOGIN_LIMIT_REACHED, claim, now_us))

        await self._database.write("throttle", unit)


def _entry(event: Event, claim: Claim, now_us: int) -> Entry:
    return Entry(
        event=event, at_us=now_us, account=claim.account, subject=claim.device, network=claim.network
    )
