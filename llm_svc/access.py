"""Who may call what in this room."""

from __future__ import annotations

from datetime import timedelta

from chassis.access import ANY_SCOPE, Audience, Policies, Policy

_READ = timedelta(seconds=5)
_AGENT = frozenset({"orchestrator"})
_FOR_A_TURN = {"orchestrator": "turn"}
_SERVICE = "/assistant.generation.v1.GenerationService"

POLICIES: Policies = {
    f"{_SERVICE}/Generate": Policy(
        audience=Audience.ROOM,
        deadline=None,
        callers=frozenset({"orchestrator", "media"}),
        grants=_FOR_A_TURN,
        grant_optional=True,  # llm_svc.leave says what may be asked without one
    ),
    f"{_SERVICE}/BatchGenerate": Policy(
        audience=Audience.ROOM,
        deadline=timedelta(minutes=15),
        callers=_AGENT,
        grants=_FOR_A_TURN,
    ),
    f"{_SERVICE}/CountTokens": Policy(
        audience=Audience.ROOM, deadline=timedelta(seconds=10), callers=_AGENT, grants=_FOR_A_TURN
    ),
    f"{_SERVICE}/ListModels": Policy(audience=Audience.USER, deadline=_READ, callers=_AGENT, scope=ANY_SCOPE),
    f"{_SERVICE}/GetModel": Policy(audience=Audience.USER, deadline=_READ, callers=_AGENT, scope=ANY_SCOPE),
}
