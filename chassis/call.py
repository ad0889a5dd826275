"""The call being served: who asks, under which id, and until when. Set by the boundary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from chassis.errors import GrantInvalid, TokenMissing


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A person at one of their sign-ins. `expires_at_us` is the token's end, in microseconds since 1970.

    With `scopes` it is a token that may do only these; without any it may do everything.
    """

    account: str
    sign_in: str
    scopes: frozenset[str]
    expires_at_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """Leave to act for a person, for one piece of work: `work` is its id, `kind` what that is an id of.

    `session` is where the work belongs; empty: nowhere.
    """

    account: str
    kind: str
    work: str
    session: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomCaller:
    """Another room of the mesh, proved by its own key; with `grant` it acts for a person."""

    name: str
    grant: Grant | None = None


Caller: TypeAlias = User | RoomCaller


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call. `caller` is None when the method is open to anyone; `deadline` is in monotonic seconds."""

    request_id: str
    method: str
    caller: Caller | None
    deadline: float | None
    peer: str

    def remaining(self) -> timedelta | None:
        """Time left (never negative), or None when the call has no deadline."""
        if self.deadline is None:
            return None
        return timedelta(seconds=max(0.0, self.deadline - time.monotonic()))

    def user(self) -> User:
        """The person who calls. Raises TokenMissing when it is not a person."""
        if isinstance(self.caller, User):
            return self.caller
        raise TokenMissing("the caller is not a user")

    def account(self) -> str:
        """Whose account the call acts on: the person's who calls, or the one a room has leave to act for.

        Raises GrantInvalid for a room without leave, TokenMissing where nobody is known.
        """
        match self.caller:
            case User(account=account) | RoomCaller(grant=Grant(account=account)):
                return account
            case RoomCaller():
                raise GrantInvalid("the room acts for nobody")
            case None:
                raise TokenMissing("the caller is not known")


_current: ContextVar[Call] = ContextVar("chassis.call")


def current() -> Call:
    """The call being served. Raises LookupError outside of one."""
    return _current.get()


def current_or_none() -> Call | None:
    """The call being served, or None in background work."""
    return _current.get(None)


@contextmanager
def entered(call: Call) -> Iterator[Call]:
    """Make `call` the current one inside the block."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)
