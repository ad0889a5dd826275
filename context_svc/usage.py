"""Who calls: this room's check of tokens, which also notes that a token arrived and a device was there.

The first use of an access token proves that its device got the answer of the refresh it came with, so that
the refresh token before is spent. It is noted behind the call's back, at most once a minute for each sign-in.
"""

from __future__ import annotations

from collections import OrderedDict

from chassis import telemetry
from chassis.access import Audience, Policy
from chassis.auth import Authenticator
from chassis.call import Caller, User
from chassis.clock import Clock
from chassis.crossing import Metadata
from chassis.database import Database, Statement, Unit
from chassis.errors import ServiceError, StoreUnavailable, TokenInvalid
from chassis.tasks import Tasks
from chassis.tokens import Verifier
from context_svc import api_tokens, refresh
from context_svc.networks import network_of, shortened
from context_svc.signing import GENERATION, LIFETIME, UserKeys

log = telemetry.logger(__name__)
_REMEMBERED = 10_000
_MINUTE_US = 60_000_000
_ACCESS_SECONDS = LIFETIME.total_seconds()
_ASKED = Policy(audience=Audience.USER, deadline=None)


class Usage:
    """Writes down, once a minute for each sign-in, that it was used and with which generation."""

    def __init__(self, database: Database, clock: Clock, tasks: Tasks) -> None:
        self._database = database
        self._clock = clock
        self._tasks = tasks
        self._noted: OrderedDict[tuple[str, int | None], int] = OrderedDict()

    def note(self, sign_in: str, generation: int | None, network: str) -> None:
        """A valid token came; an API token has no generation. Returns at once; the writing follows."""
        key, minute = (sign_in, generation), self._clock.now_us() // _MINUTE_US
        if self._noted.get(key) == minute:
            return
        self._noted[key] = minute
        self._noted.move_to_end(key)
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)
        self._tasks.spawn("note a used token", self._write(sign_in, generation, network))

    async def _write(self, sign_in: str, generation: int | None, network: str) -> None:
        now_us = self._clock.now_us()
        try:
            await self._database.write("sign_in", lambda: _noted(sign_in, generation, network, now_us))
        except StoreUnavailable as error:
            self._noted.pop((sign_in, generation), None)  # the next call tries again
            log.warning("a used token was not noted", why=error.internal)


class Gate:
    """Authenticates every call of this room (chassis.crossing.Authenticates)."""

    def __init__(self, authenticator: Authenticator, users: Verifier, usage: Usage, keys: UserKeys) -> None:
        self._authenticator = authenticator
        self._users = users
        self._usage = usage
        self._keys = keys

    def caller(self, metadata: Metadata, policy: Policy) -> Caller | None:
        """See `chassis.auth.Authenticator.caller`."""
        headers = tuple(metadata)
        caller = self._authenticator.caller(headers, policy)
        if isinstance(caller, User):
            self._note(_bearer(headers), network_of(headers))
        return caller

    def signed_in(self, metadata: Metadata) -> User | None:
        """The person behind the access token of an open call, or None when there is no good one."""
        try:
            caller = self._authenticator.caller(metadata, _ASKED)
        except ServiceError:
            return None
        return caller if isinstance(caller, User) else None

    def _note(self, token: str, network: str) -> None:
        claims = self._users.verify(token)  # remembered by digest: not checked twice
        limited, long = bool(claims.all.get("scope")), claims.expires - claims.issued > _ACCESS_SECONDS
        if limited is not (self._keys.api_signer_of(claims.key_id) is not None) or (long and not limited):
            raise TokenInvalid("a key signed what it is not for")
        generation = claims.all.get(GENERATION)
        if limited or isinstance(generation, int):
            self._usage.note(claims.session, generation if isinstance(generation, int) else None, network)


def _bearer(metadata: Metadata) -> str:
    value = next(value for key, value in metadata if key == "authorization")
    return str(value).removeprefix("Bearer ")


def _noted(sign_in: str, generation: int | None, network: str, now_us: int) -> Unit[None]:
    if generation is None:
        yield from api_tokens.mark_used(sign_in, now_us)
        return
    yield from refresh.mark_used(sign_in, generation, now_us)
    yield Statement(
        "UPDATE device SET last_use_us = :now_us,"
        " last_network = CASE WHEN :network = '' THEN last_network ELSE :network END"
        " WHERE last_use_us < :now_us AND (account_id, id) ="
        " (SELECT account_id, device_id FROM sign_in WHERE id = :sign_in)",
        {"sign_in": sign_in, "now_us": now_us, "network": shortened(network)},
    )
