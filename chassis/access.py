"""Who may call what, and how long it may take: one table, a row per method, no method without a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import TypeAlias


class Audience(Enum):
    """Who a method is for."""

    OPEN = "open"  # anyone who reaches the socket
    USER = "user"  # a person's token
    ROOM = "room"  # another room's token, if `Policy.callers` names it
    LOCAL = "local"  # whoever may open the operator's unix socket; no token


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """One method's row. `deadline` caps the call (None: a long stream); `served=False` answers NOT_SERVED.

    `callers` names the rooms that may call a ROOM method, or a USER method beside the people it is for. `scope`
    is what a token that is limited to scopes must have: None: no such token may call, ANY_SCOPE: each may.

    `grants` says of which rooms a call is made for a person, and so needs a grant, and for which kind of work.
    With `grant_optional` a call without one reaches the method, which refuses it by what it asks for;
    `after_end` takes the grants of accounts that have ended too, as what cleans up behind them must.
    """

    audience: Audience
    deadline: timedelta | None
    callers: frozenset[str] = frozenset()
    served: bool = True
    scope: str | None = None
    grants: Mapping[str, str] = field(default_factory=dict)
    grant_optional: bool = False
    after_end: bool = False


ANY_SCOPE = ""
"""The scope of a method that every token may call, whatever its scopes."""

Policies: TypeAlias = Mapping[str, Policy]
"""Full method name (``/package.Service/Method``) to its row."""

_OPEN_STREAM = Policy(audience=Audience.OPEN, deadline=None)

STANDARD: Policies = {
    "/grpc.health.v1.Health/Check": Policy(audience=Audience.OPEN, deadline=timedelta(seconds=5)),
    "/grpc.health.v1.Health/Watch": _OPEN_STREAM,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _OPEN_STREAM,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _OPEN_STREAM,
}
"""Health and reflection, the same for every room. Reflection is refused unless the room serves it."""
