"""The room's calls as MCP tools and resources: arguments in, requests out; answers in, JSON out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jsonschema
from google.protobuf import json_format
from google.protobuf.message import Message

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.context.v1 import context_pb2
from assistant.message.v1 import message_pb2
from assistant.session.v1 import session_pb2
from chassis.errors import InvalidRequest, MalformedMessage, Violation
from context_svc.errors import ContextItemNotFound
from context_svc.wire.mcp_turn import Handle

Arguments: TypeAlias = Mapping[str, Any]
Json: TypeAlias = dict[str, Any]
NewId: TypeAlias = Callable[[], str]

_AGENT = "/assistant.agent.v1.AgentService/"
_CHAT = "/assistant.chat.v1.ChatService/"
_CONTEXT = "/assistant.context.v1.ContextService/"
_SESSION = "/assistant.session.v1.SessionService/"
LIST_ACTIONS = _AGENT + "ListCapabilities"
EXECUTE = _AGENT + "ExecuteAction"
SEND = _CHAT + "SendMessage"
EVENTS = _CHAT + "ListEvents"
FOLLOW = _CHAT + "SubscribeEvents"
CANCEL = _CHAT + "CancelTurn"
MESSAGES = _CHAT + "ListMessages"
SESSIONS = _SESSION + "ListSessions"
SESSION = _SESSION + "GetSession"
CONTEXT = _CONTEXT + "GetContext"

SESSION_FIELD = "in_session"
"""The argument of an action's tool that names the session; the others are the action's own."""
ACTION_PREFIX = "action_"
LONGEST_WAIT = 45

_TEXT = {"type": "string"}
_SESSION_ID = {"type": "string", "description": "Id of a session, from list_sessions or create_session."}
_TURN = {"type": "string", "description": "The `turn` of an earlier answer."}
_WAIT = {
    "type": "integer",
    "minimum": 0,
    "maximum": LONGEST_WAIT,
    "description": f"Seconds to wait for the end of the turn, 0 to {LONGEST_WAIT}.",
}
_PAGE: Json = {
    "page_size": {"type": "integer", "minimum": 0, "maximum": 200},
    "page_token": {"type": "string", "description": "`next_page_token` of the page before."},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool that every mesh has. `method` is the call behind it, whose scope it needs."""

    name: str
    title: str
    description: str
    method: str
    schema: Json
    reads: bool


def _object(required: tuple[str, ...] = (), **properties: Any) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            name="send_message",
            title="Say something to the assistant",
            description="Sends a message in a session and answers with what the assistant says. A turn that takes"
            " longer, or waits for a person, answers with its `turn`: ask for it again with get_turn.",
            method=SEND,
            schema=_object(
                ("session_id", "text"),
                session_id=_SESSION_ID,
                text={"type": "string", "minLength": 1, "maxLength": 100_000},
                client_message_id={
                    "type": "string",
                    "description": "A UUID of yours: repeating the call with it sends nothing twice.",
                },
                wait_seconds=_WAIT,
            ),
            reads=False,
        ),
        Tool(
            name="get_turn",
            title="Look after a turn",
            description="Says where a turn stands: its answer, what its actions did, or what a person must approve.",
            method=EVENTS,
            schema=_object(("turn",), turn=_TURN, wait_seconds=_WAIT),
            reads=True,
        ),
        Tool(
            name="cancel_turn",
            title="Stop a turn",
            description="Stops a turn that has not ended.",
            method=CANCEL,
            schema=_object(("turn",), turn=_TURN),
            reads=False,
        ),
        Tool(
            name="list_sessions",
            title="List sessions",
            description="The person's sessions, the most recently used first, in pages.",
            method=SESSIONS,
            schema=_object(**_PAGE),
            reads=True,
        ),
        Tool(
            name="create_session",
            title="Begin a session",
            description="Makes a new session.",
            method=_SESSION + "CreateSession",
            schema=_object(
                title={"type": "string", "maxLength": 200},
                session_id={
                    "type": "string",
                    "description": "A UUID of yours: the same one makes one session.",
                },
            ),
            reads=False,
        ),
        Tool(
            name="get_messages",
            title="Read a session",
            description="The messages of a session, newest first, in pages.",
            method=MESSAGES,
            schema=_object(
                ("session_id",),
                session_id=_SESSION_ID,
                oldest_first={"type": "boolean"},
                **_PAGE,
            ),
            reads=True,
        ),
        Tool(
            name="search_messages",
            title="Search messages",
            description="Finds messages by their words, in all sessions or in one, in pages.",
            method=_CHAT + "SearchMessages",
            schema=_object(
                ("query",),
                query={"type": "string", "minLength": 1, "maxLength": 500},
                session_id=_SESSION_ID,
                **_PAGE,
            ),
            reads=True,
        ),
        Tool(
            name="get_context",
            title="Read context",
            description="What the assistant knows: the person's context, or that of a session.",
            method=CONTEXT,
            schema=_object(
                session_id=_SESSION_ID,
                include_user_scope={"type": "boolean", "description": "With a session: the person's too."},
                keys={"type": "array", "items": _TEXT, "maxItems": 200},
                key_prefix=_TEXT,
            ),
            reads=True,
        ),
        Tool(
            name="update_context",
            title="Write context",
            description="Writes items of the person's context, or of a session's. Keys: [a-z0-9_.-], up to 128.",
            method=_CONTEXT + "UpdateContext",
            schema=_object(
                ("items",),
                items={"type": "object", "minProperties": 1, "maxProperties": 200},
                session_id=_SESSION_ID,
                request_id={"type": "string", "description": "A UUID of yours: the same one writes once."},
            ),
            reads=False,
        ),
    )
}
_ANSWERS: Mapping[str, type[Message]] = {
    "list_sessions": session_pb2.ListSessionsResponse,
    "create_session": session_pb2.CreateSessionResponse,
    "get_messages": chat_pb2.ListMessagesResponse,
    "search_messages": chat_pb2.SearchMessagesResponse,
    "get_context": context_pb2.GetContextResponse,
    "update_context": context_pb2.UpdateContextResponse,
    "cancel_turn": chat_pb2.CancelTurnResponse,
}


def readable(given: object) -> None:
    """Raises MalformedMessage for text that is none: half of a surrogate pair."""
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise MalformedMessage(type(error).__name__) from error


def check(arguments: Arguments, schema: Json) -> None:
    """Raises InvalidRequest for arguments that do not fit."""
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(dict(arguments))
    )
    if error is not None:
        where = ".".join(map(str, error.absolute_path)) or "arguments"
        fault = Violation(field=where, description=error.message[:200], rule="arguments.schema")
        raise InvalidRequest(violations=[fault])


def request(name: str, arguments: Arguments, new_id: NewId) -> bytes:
    """The request of a tool with one answer. Raises InvalidRequest."""
    match name:
        case "cancel_turn":
            turn = Handle.read(arguments["turn"])
            message: Message = chat_pb2.CancelTurnRequest(
                session_id=turn.session_id, turn_id=turn.turn_id, request_id=new_id()
            )
        case "create_session":
            message = session_pb2.CreateSessionRequest(
                session_id=arguments.get("session_id", new_id()), title=arguments.get("title", "")
            )
        case "get_messages":
            message = chat_pb2.ListMessagesRequest(
                session_id=arguments["session_id"],
                page_size=arguments.get("page_size", 0),
                page_token=arguments.get("page_token", ""),
                order=chat_pb2.LIST_ORDER_OLDEST_FIRST
                if arguments.get("oldest_first")
                else chat_pb2.LIST_ORDER_UNSPECIFIED,
            )
        case "update_context":
            message = _update(arguments, new_id)
        case "list_sessions":
            message = _parsed(arguments, session_pb2.ListSessionsRequest())
        case "search_messages":
            message = _parsed(arguments, chat_pb2.SearchMessagesRequest())
        case _:
            message = _parsed(arguments, context_pb2.GetContextRequest())
    return message.SerializeToString()


def answer(name: str, data: bytes) -> Json:
    """The answer of such a tool."""
    return _json(_ANSWERS[name].FromString(data))


def said(arguments: Arguments, new_id: NewId) -> bytes:
    """The request of send_message."""
    message = chat_pb2.NewMessage(
        session_id=arguments["session_id"],
        client_message_id=arguments.get("client_message_id", new_id()),
        parts=[message_pb2.Part(text=arguments["text"])],
    )
    return chat_pb2.SendMessageRequest(message=message, follow=True).SerializeToString()


def execution(action: str, arguments: Arguments, new_id: NewId) -> bytes:
    """The request that runs an action; never with a person's word that it may. Raises InvalidRequest."""
    session = arguments.get(SESSION_FIELD)
    if not isinstance(session, str):
        fault = Violation(field=SESSION_FIELD, description="must name a session", rule="arguments.schema")
        raise InvalidRequest(violations=[fault])
    own = {key: value for key, value in arguments.items() if key != SESSION_FIELD}
    return agent_pb2.ExecuteActionRequest(
        session_id=session,
        request_id=new_id(),
        action=action,
        arguments_json=json.dumps(own, ensure_ascii=False, separators=(",", ":")),
        follow=True,
    ).SerializeToString()


def events(turn: Handle, after: int) -> bytes:
    """The request of a page of a turn's log."""
    return chat_pb2.ListEventsRequest(
        session_id=turn.session_id, after_sequence=after, page_size=1000
    ).SerializeToString()


def event_page(data: bytes) -> chat_pb2.ListEventsResponse:
    """Such a page."""
    return chat_pb2.ListEventsResponse.FromString(data)


def following(turn: Handle, after: int) -> bytes:
    """The request that follows a turn's session."""
    cursor = session_pb2.SessionCursor(session_id=turn.session_id, sequence=after)
    return chat_pb2.SubscribeEventsRequest(cursors=[cursor]).SerializeToString()


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """An action of the mesh, as the tool it is."""

    name: str
    description: str
    schema: Json
    reads_only: bool
    reaches_out: bool
    has_effect: bool


def actions(size: int, token: str) -> bytes:
    """The request of a page of actions."""
    return agent_pb2.ListCapabilitiesRequest(page_size=size, page_token=token).SerializeToString()


def action_page(data: bytes) -> tuple[list[Action], str]:
    """The actions of a page that can be used now, and the token of the next one."""
    page = agent_pb2.ListCapabilitiesResponse.FromString(data)
    ready = [each for each in page.actions if each.state == agent_pb2.ACTION_STATE_READY]
    return [_action(each) for each in ready], page.next_page_token


def tool_name(action: str) -> str:
    """The tool of an action: a name that every client takes."""
    return ACTION_PREFIX + action.replace(".", "-")


def action_name(tool: str) -> str | None:
    """The action of a tool; None when it is not an action's."""
    return tool.removeprefix(ACTION_PREFIX).replace("-", ".") if tool.startswith(ACTION_PREFIX) else None


def _action(given: agent_pb2.Action) -> Action:
    schema: Json = json.loads(given.parameters_json_schema or "{}")
    session = {"type": "string", "description": "Id of the session whose log keeps the call and its result."}
    effect = given.effect_class
    return Action(
        name=given.name,
        description=given.description,
        schema={
            **schema,
            "type": "object",
            "properties": {**schema.get("properties", {}), SESSION_FIELD: session},
            "required": [*schema.get("required", []), SESSION_FIELD],
        },
        reads_only=effect == chat_pb2.EFFECT_CLASS_READS_OUT,
        reaches_out=effect in (chat_pb2.EFFECT_CLASS_READS_OUT, chat_pb2.EFFECT_CLASS_EFFECT),
        has_effect=effect == chat_pb2.EFFECT_CLASS_EFFECT,
    )


def _update(arguments: Arguments, new_id: NewId) -> context_pb2.UpdateContextRequest:
    items = [{"key": key, "value": value} for key, value in sorted(arguments["items"].items())]
    given = {
        "session_id": arguments.get("session_id", ""),
        "request_id": arguments.get("request_id", new_id()),
        "items": items,
    }
    message = context_pb2.UpdateContextRequest()
    _parsed(given, message)
    return message


def _parsed(arguments: Arguments, message: Any) -> Any:
    try:
        return json_format.ParseDict(dict(arguments), message)
    except json_format.ParseError as error:
        raise MalformedMessage(type(error).__name__) from error


def _json(message: Message) -> Json:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


# --- resources

ROOT = "mesh://"
_RESOURCE = re.compile(
    r"mesh://(?:context(?:/(?P<key>[a-z0-9_.-]{1,128}))?"
    r"|sessions/(?P<session>[A-Za-z0-9-]{1,64})"
    r"(?:/(?P<part>messages)(?:\?page_token=(?P<token>[A-Za-z0-9_=.-]{1,1024}))?"
    r"|/(?P<scope>context)(?:/(?P<session_key>[a-z0-9_.-]{1,128}))?)?)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A resource as the call that reads it."""

    method: str
    request: bytes
    answer: type[Message]
    key: str = ""

    def told(self, data: bytes) -> Json:
        """The resource's content. Raises ContextItemNotFound."""
        found = self.answer.FromString(data)
        if self.key and not found.items:  # type: ignore[attr-defined]
            raise ContextItemNotFound
        return _json(found)


def reading(uri: str) -> Reading | None:
    """How to read a resource; None for what is none."""
    found = _RESOURCE.fullmatch(uri)
    if found is None:
        return None
    session = found["session"]
    if session is None or found["scope"]:
        key = found["key"] or found["session_key"] or ""
        asked = context_pb2.GetContextRequest(session_id=session or "", keys=[key] if key else [])
        return Reading(
            method=CONTEXT,
            request=asked.SerializeToString(),
            answer=context_pb2.GetContextResponse,
            key=key,
        )
    if found["part"]:
        page = chat_pb2.ListMessagesRequest(session_id=session, page_token=found["token"] or "")
        return Reading(
            method=MESSAGES, request=page.SerializeToString(), answer=chat_pb2.ListMessagesResponse
        )
    one = session_pb2.GetSessionRequest(session_id=session)
    return Reading(method=SESSION, request=one.SerializeToString(), answer=session_pb2.GetSessionResponse)


def sessions(size: int, token: str) -> bytes:
    """The request of a page of sessions."""
    return session_pb2.ListSessionsRequest(page_size=size, page_token=token).SerializeToString()


def session_page(data: bytes) -> tuple[list[tuple[str, str]], str]:
    """Ids and titles of a page of sessions, and the token of the next one."""
    page = session_pb2.ListSessionsResponse.FromString(data)
    return [(each.id, each.title) for each in page.sessions], page.next_page_token
