"""Who may call what in this room."""

from __future__ import annotations

from datetime import timedelta

from chassis.access import ANY_SCOPE, Audience, Policies, Policy

_READ = timedelta(seconds=5)
_AGENT = frozenset({"orchestrator"})
_SERVICE = "/assistant.generation.v1.GenerationService"

POLICIES: Policies = {
    f"{_SERVICE}/Generate": Policy(
        audience=Audience.ROOM, deadline=None, callers=frozenset({"orchestrator", "media"})
    ),
    f"{_SERVICE}/BatchGenerate": Policy(
        audience=Audience.ROOM,
        deadline=timedelta(minutes=15),
        callers=_AGENT,
    ),
    f"{_SERVICE}/CountTokens": Policy(audience=Audience.ROOM, deadline=timedelta(seconds=10), callers=_AGENT),
    f"{_SERVICE}/ListModels": Policy(audience=Audience.USER, deadline=_READ, callers=_AGENT, scope=ANY_SCOPE),
    f"{_SERVICE}/GetModel": Policy(audience=Audience.USER, deadline=_READ, callers=_AGENT, scope=ANY_SCOPE),
}
