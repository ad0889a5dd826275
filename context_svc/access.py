"""Who may call which RPC of this room, and for how long: one row for each RPC of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from chassis.access import ANY_SCOPE, Audience, Policies, Policy

ROOMS_WITH_FEED = frozenset({"orchestrator", "llm", "media"})

_FIVE = timedelta(seconds=5)
_OPEN = Policy(audience=Audience.OPEN, deadline=_FIVE)
_USER = Policy(audience=Audience.USER, deadline=_FIVE)
_POLL = replace(_USER, deadline=timedelta(seconds=30))  # ListEvents may wait 25 s for the next event
_STREAM = replace(_USER, deadline=None)
_CHUNK = replace(_USER, deadline=timedelta(seconds=30))
_FEED = Policy(audience=Audience.ROOM, deadline=None, callers=ROOMS_WITH_FEED)
_LOCAL = Policy(audience=Audience.LOCAL, deadline=_FIVE)
_LONG_LOCAL = replace(_LOCAL, deadline=timedelta(minutes=30))


def _later(policy: Policy) -> Policy:
    """Part of the contract, not served yet."""
    return replace(policy, served=False)


_SERVICES: dict[str, dict[str, Policy]] = {
    "assistant.identity.v1.IdentityService": {
        "Register": _OPEN,
        "Login": _OPEN,
        "RefreshToken": _OPEN,
        "Logout": _OPEN,
        "GetCurrentUser": _USER,
        "UpdateCurrentUser": _USER,
        "ChangePassword": _USER,
        "ListDevices": _USER,
        "UpdateDevice": _USER,
        "RevokeDevice": _USER,
        "CreateApiToken": _USER,
        "ListApiTokens": _USER,
        "RevokeApiToken": _USER,
        "ExportAccount": _STREAM,
        "ImportAccount": _STREAM,
        "CreateImport": _USER,
        "WriteImport": _CHUNK,
        "GetImport": _USER,
        "DeleteAccount": _USER,
        "GetServerInfo": _OPEN,
        "GetJwks": _OPEN,
        "WatchRevocations": _FEED,
    },
    "assistant.session.v1.SessionService": {
        "CreateSession": _USER,
        "GetSession": _USER,
        "ListSessions": _USER,
        "UpdateSession": _USER,
        "ResumeSession": _USER,
        "EndSession": _USER,
        "DeleteSession": _USER,
    },
    "assistant.context.v1.ContextService": {
        "GetContext": _USER,
        "UpdateContext": _USER,
        "DeleteContextItems": _USER,
        "WatchContext": _STREAM,
        "GetPreferences": _USER,
        "UpdatePreferences": _USER,
        "ListSuggestions": _USER,
        "ResolveSuggestion": _USER,
    },
    "assistant.chat.v1.ChatService": {
        "Chat": _STREAM,
        "SendMessage": _STREAM,
        "SendMessageBatch": _POLL,
        "SubscribeEvents": _STREAM,
        "ListEvents": _POLL,
        "AckEvents": _USER,
        "ListMessages": _USER,
        "GetMessage": _USER,
        "SearchMessages": _USER,
        "CancelTurn": _USER,
        "RespondToTurn": _USER,
        "EditMessage": _USER,
        "RegenerateTurn": _USER,
        "ImportAnswer": _USER,
        "RateMessage": _USER,
        "ClearMessages": _USER,
        "GetTurnReceipt": _USER,
    },
    "assistant.agent.v1.AgentService": {
        "ListCapabilities": _USER,
        "ExecuteAction": _STREAM,
        "ListJobs": _USER,
        "CancelJob": _USER,
    },
    "assistant.reminder.v1.ReminderService": {
        "CreateReminder": _USER,
        "ListReminders": _USER,
        "DeleteReminder": _USER,
    },
    "assistant.notification.v1.NotificationService": {
        "RegisterPushTarget": _later(_USER),
        "ListPushTargets": _later(_USER),
        "DeletePushTarget": _later(_USER),
    },
}
_OPERATOR: dict[str, dict[str, Policy]] = {
    "assistant.operator.v1.OperatorService": {
        "GetSetupCode": _LOCAL,
        "ListUsers": _LOCAL,
        "ResetPassword": _LOCAL,
        "RevokeUser": _LOCAL,
        "DeleteUser": _LOCAL,
        "CreateInvite": _LOCAL,
        "GetTurnTrace": _later(_LOCAL),
        "CreateBackup": _LONG_LOCAL,
        "RestoreBackup": _LONG_LOCAL,
        "GetStatus": _LOCAL,
    },
}


_SCOPES: dict[str, str] = {
    "GetCurrentUser": ANY_SCOPE,
    "AckEvents": "chat",
    "CancelJob": "actions",
    "CancelTurn": "chat",
    "Chat": "chat",
    "ClearMessages": "chat",
    "CreateReminder": "context",
    "CreateSession": "chat",
    "DeleteContextItems": "context",
    "DeleteReminder": "context",
    "DeleteSession": "chat",
    "EditMessage": "chat",
    "EndSession": "chat",
    "ExecuteAction": "actions",
    "GetContext": "read",
    "GetMessage": "read",
    "GetPreferences": "read",
    "GetSession": "read",
    "GetTurnReceipt": "read",
    "ImportAnswer": "chat",
    "ListCapabilities": "read",
    "ListEvents": "read",
    "ListJobs": "read",
    "ListMessages": "read",
    "ListReminders": "read",
    "ListSessions": "read",
    "ListSuggestions": "read",
    "RateMessage": "chat",
    "RegenerateTurn": "chat",
    "ResolveSuggestion": "context",
    "RespondToTurn": "approve",
    "ResumeSession": "read",
    "SearchMessages": "read",
    "SendMessage": "chat",
    "SendMessageBatch": "chat",
    "SubscribeEvents": "read",
    "UpdateContext": "context",
    "UpdatePreferences": "context",
    "UpdateSession": "chat",
    "WatchContext": "read",
}
"""What an API token must be allowed, by method; a method without an entry is for signed-in devices alone."""


def _rows(services: dict[str, dict[str, Policy]]) -> Iterator[tuple[str, Policy]]:
    for service, methods in services.items():
        for method, policy in methods.items():
            yield f"/{service}/{method}", replace(policy, scope=_SCOPES.get(method))


PUBLIC: Policies = dict(_rows(_SERVICES))
"""The RPCs of the room's own socket."""

OPERATOR: Policies = dict(_rows(_OPERATOR))
"""The RPCs of the operator's socket, which no other socket has."""

POLICIES: Policies = {**PUBLIC, **OPERATOR}
"""The RPCs of both sockets."""

SERVICES: tuple[str, ...] = tuple(_SERVICES)
"""The services of the room's own socket, for health."""

OPERATOR_SERVICES: tuple[str, ...] = tuple(_OPERATOR)
"""The service of the operator's socket, for health."""
