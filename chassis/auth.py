"""Who calls: a person by the token of their sign-in, a room by a token of its own key."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from chassis.access import ANY_SCOPE, Audience, Policy
from chassis.call import Caller, Grant, RoomCaller, User
from chassis.clock import Clock
from chassis.crossing import Metadata
from chassis.errors import (
    CallerNotAllowed,
    FeedLost,
    GrantInvalid,
    ScopeMissing,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenRevoked,
)
from chassis.keys import KeySet
from chassis.tokens import GRANT_TOKEN, ROOM_TOKEN, Claims, Signer, Verifier, unverified_type

PATIENCE = timedelta(seconds=10)
GRANT = "x-assistant-grant"
"""The header with which a room shows its leave to act for a person."""
GRANT_LIFETIME = timedelta(seconds=60)
_PREFIX = "Bearer "
_ROOM_ISSUER = "room:"
_ROOM_TOKEN_SECONDS = 60


class Revocations:
    """The sign-ins and accounts that have ended, as the feed told. In memory: the feed sends the list anew.

    `patience=None` is for the room that owns the list: it has nothing to lose touch with.
    """

    def __init__(self, clock: Clock, patience: timedelta | None = PATIENCE) -> None:
        self._clock = clock
        self._patience = patience
        self._sign_ins: set[str] = set()
        self._accounts: set[str] = set()
        self.seen_at: float | None = None

    def replace(self, *, sign_ins: Iterable[str], accounts: Iterable[str]) -> None:
        """The feed's first frame: the whole list."""
        self._sign_ins, self._accounts = set(sign_ins), set(accounts)
        self.seen()

    def revoke(self, *, sign_ins: Iterable[str] = (), accounts: Iterable[str] = ()) -> None:
        """A later frame: these have ended too."""
        self._sign_ins.update(sign_ins)
        self._accounts.update(accounts)
        self.seen()

    def seen(self) -> None:
        """A frame came, if only a heartbeat."""
        self.seen_at = self._clock.monotonic()

    def alive(self) -> bool:
        """Whether the list is recent enough to trust a token that is not on it."""
        if self._patience is None:
            return True
        since = None if self.seen_at is None else self._clock.monotonic() - self.seen_at
        return since is not None and since <= self._patience.total_seconds()

    def revoked(self, user: User) -> bool:
        """Whether this sign-in or its account has ended."""
        return user.sign_in in self._sign_ins or self.account_ended(user.account)

    def account_ended(self, account: str) -> bool:
        """Whether nothing may be done for this account any more."""
        return account in self._accounts


class Authenticator:
    """Turns a call's metadata into its caller. None for a verifier: this room takes no such callers."""

    def __init__(
        self,
        users: Verifier | None,
        rooms: Verifier | None,
        revocations: Revocations,
        clock: Clock,
        *,
        grants: Verifier | None = None,
    ) -> None:
        self._users = users
        self._rooms = rooms
        self._grants = grants
        self._revocations = revocations
        self._clock = clock

    def caller(self, metadata: Metadata, policy: Policy) -> Caller | None:
        """The caller, or None where anyone may call.

        Raises TokenMissing, TokenInvalid, TokenExpired, TokenRevoked, FeedLost, ScopeMissing,
        CallerNotAllowed and GrantInvalid.
        """
        match policy.audience:
            case Audience.OPEN | Audience.LOCAL:
                return None
            case Audience.USER:
                metadata = tuple(metadata)
                token = _bearer(metadata)
                if self._speaks_for_a_room(token, policy):
                    return self._room(token, metadata, policy)
                return _within_scopes(self.user(token), policy)
            case Audience.ROOM:
                metadata = tuple(metadata)
                return self._room(_bearer(metadata), metadata, policy)

    def _speaks_for_a_room(self, token: str, policy: Policy) -> bool:
        """Whether a method for people is being called by one of the rooms that its row names too."""
        return bool(policy.callers) and unverified_type(token) == ROOM_TOKEN

    def user(self, token: str) -> User:
        """The person behind a token, for doors that are not gRPC too."""
        if self._users is None:
            raise CallerNotAllowed("no person calls this room")
        if not self._revocations.alive():  # asked first: without the feed the keys may be missing too
            raise FeedLost
        user = _user(self._users.verify(token))
        if self._revocations.revoked(user):
            raise TokenRevoked
        return user

    def _room(self, token: str, metadata: Metadata, policy: Policy) -> RoomCaller:
        if self._rooms is None:
            raise CallerNotAllowed("no room calls this room")
        claims = self._rooms.verify(token)
        if claims.issuer != _ROOM_ISSUER + claims.subject:
            raise TokenInvalid("a room speaks for itself only")
        if claims.subject not in policy.callers:
            raise CallerNotAllowed(f"{claims.subject} may not call this")
        kind = policy.grants.get(claims.subject)
        grant = None if kind is None else self._grant(metadata, kind, policy)
        return RoomCaller(name=claims.subject, grant=grant)

    def _grant(self, metadata: Metadata, kind: str, policy: Policy) -> Grant | None:
        values = [value for key, value in metadata if key == GRANT]
        if not values and policy.grant_optional:
            return None
        if len(values) != 1 or not isinstance(values[0], str):
            raise GrantInvalid(f"{len(values)} grants", metadata={"grant": "missing"})
        if self._grants is None:
            raise GrantInvalid("this room takes no grants", metadata={"grant": "invalid"})
        if not self._revocations.alive():
            raise FeedLost
        try:
            claims = self._grants.verify(values[0])
        except TokenExpired as error:
            raise GrantInvalid("expired", metadata={"grant": "expired"}) from error
        except TokenInvalid as error:
            raise GrantInvalid(error.internal, metadata={"grant": "invalid"}) from error
        grant = _leave(claims, kind)
        if self._revocations.account_ended(grant.account) and not policy.after_end:
            raise GrantInvalid("the account has ended", metadata={"grant": "invalid"})
        return grant


class RoomIdentity:
    """This room's own name and key, from which it makes a short token per callee.

    The signer's issuer is ``room:<name>`` and its key id that, or that with ``#`` and a suffix.
    """

    def __init__(self, name: str, signer: Signer, clock: Clock) -> None:
        self.name = name
        self._signer = signer
        self._clock = clock
        self._tokens: dict[str, tuple[float, str]] = {}

    def token(self, callee: str) -> str:
        """A token for one callee, valid for at least half of its 60 s."""
        now = self._clock.monotonic()
        renew_at, token = self._tokens.get(callee, (now, ""))
        if renew_at <= now:
            token = self._sign(callee)
            self._tokens[callee] = (now + _ROOM_TOKEN_SECONDS / 2, token)
        return token

    def _sign(self, callee: str) -> str:
        issued = self._clock.now_us() // 1_000_000
        claims = {"sub": self.name, "aud": callee, "iat": issued, "exp": issued + _ROOM_TOKEN_SECONDS}
        return self._signer.sign(claims, typ=ROOM_TOKEN)


def room_issuer(name: str) -> str:
    """The issuer (and the beginning of each key id) of a room's tokens."""
    return _ROOM_ISSUER + name


def _bearer(metadata: Metadata) -> str:
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1:
        raise TokenMissing(f"{len(values)} authorization headers")
    value = values[0]
    if not isinstance(value, str) or not value.startswith(_PREFIX):
        raise TokenMissing("not a bearer token")
    return value.removeprefix(_PREFIX)


def _within_scopes(user: User, policy: Policy) -> User:
    """The user, whose token has no scopes (a sign-in may do everything) or those that the method needs."""
    if not user.scopes or policy.scope == ANY_SCOPE:
        return user
    if policy.scope is None:
        raise CallerNotAllowed("not with a token that is limited to scopes")
    if policy.scope not in user.scopes:
        raise ScopeMissing(metadata={"scope": policy.scope})
    return user


def _leave(claims: Claims, kind: str) -> Grant:
    work, session = claims.all.get(kind), claims.all.get("sid", "")
    if not isinstance(work, str) or not work or not isinstance(session, str):
        raise GrantInvalid(f"not for a {kind}", metadata={"grant": "invalid"})
    return Grant(account=claims.subject, kind=kind, work=work, session=session)


def grant_verifier(keys: KeySet, issuer: str, room: str, clock: Clock) -> Verifier:
    """Checks the grants that are meant for this room: none is good for longer than 60 s."""
    return Verifier(keys, issuer, room, GRANT_TOKEN, clock, session=False, lifetime=GRANT_LIFETIME)


def _user(claims: Claims) -> User:
    scope = claims.all.get("scope", "")
    if not isinstance(scope, str):
        raise TokenInvalid("an unusable scope")
    return User(
        account=claims.subject,
        sign_in=claims.session,
        scopes=frozenset(scope.split()),
        expires_at_us=claims.expires * 1_000_000,
    )
