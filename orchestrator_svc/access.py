"""Who may call what in this room: context_svc alone."""

from __future__ import annotations

from datetime import timedelta

from chassis.access import Audience, Policies, Policy

_CONTEXT = frozenset({"context"})
_SERVICE = "/assistant.turn.v1.TurnService"

POLICIES: Policies = {
    f"{_SERVICE}/RunTurn": Policy(audience=Audience.ROOM, deadline=None, callers=_CONTEXT),
    f"{_SERVICE}/ListActions": Policy(
        audience=Audience.ROOM, deadline=timedelta(seconds=5), callers=_CONTEXT
    ),
    f"{_SERVICE}/CheckModels": Policy(
        audience=Audience.ROOM, deadline=timedelta(seconds=5), callers=_CONTEXT
    ),
}
