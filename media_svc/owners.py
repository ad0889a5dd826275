"""For whom a room acts: the person that a call of context_svc names."""

from __future__ import annotations

from chassis.crossing import Metadata
from media_svc.errors import GrantInvalid

ACTING_FOR = "x-mesh-acting-for"
"""The account. Only rooms that the policy names reach a method that reads it, each proved by its key."""


def owner(metadata: Metadata) -> str:
    """The account that the caller acts for. Raises GrantInvalid when the call names none, or several."""
    named = [value for key, value in metadata if key == ACTING_FOR]
    if len(named) != 1 or not isinstance(named[0], str) or not named[0]:
        raise GrantInvalid("the call names nobody it acts for")
    return named[0]
