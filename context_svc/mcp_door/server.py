"""The MCP server: tools, resources and tasks over the room's calls, on the official SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from chassis import ids
from chassis.boundary import Boundary
from chassis.call import User
from chassis.crossing import Record
from chassis.errors import NotServed, ServiceError
from context_svc.mcp_door import answers, tasks
from context_svc.mcp_door.loopback import Loopback, Refused, Visit
from context_svc.mcp_door.turns import TurnDesk
from context_svc.wire import mcp_calls as wire
from context_svc.wire.mcp_turn import Handle, TurnView

T = TypeVar("T")
Context: TypeAlias = ServerRequestContext[Any, Any]
VISIT, USER = "mesh.visit", "mesh.user"
"""Where the door leaves who asks, in the request's ASGI scope."""
_PAGE = 50
_INSTRUCTIONS = (
    "A private assistant. send_message talks to it in a session (create_session, list_sessions); action_… tools run"
    " one of its actions directly. What needs a person's approval waits for it, and says so."
)


class Desk:
    """Serves what clients ask for. Every call it makes is the visitor's own."""

    def __init__(self, loopback: Loopback, boundary: Boundary) -> None:
        self._loopback = loopback
        self._boundary = boundary
        self._turns = TurnDesk(loopback)

    def server(self, name: str, version: str) -> Server[Any]:
        """The SDK's server with all of it."""
        server: Server[Any] = Server(
            name,
            version=version,
            instructions=_INSTRUCTIONS,
            get_tool_input_schema=lambda tool: None,  # no argument of ours is mirrored into a header
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
        )
        server.extensions = {tasks.EXTENSION: {}}
        server.add_request_handler("tasks/get", tasks.TaskParams, self.get_task)
        server.add_request_handler("tasks/update", tasks.TaskParams, self.update_task)
        server.add_request_handler("tasks/cancel", tasks.TaskParams, self.cancel_task)
        return server

    async def list_tools(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """The tools that the caller's token may use: the mesh's own first, then its actions in pages."""

        async def run(visit: Visit) -> types.ListToolsResult:
            scopes = _user(context).scopes
            cursor = (params.cursor if params else None) or ""
            wire.readable(cursor)
            tools = (
                []
                if cursor
                else [
                    _own(tool) for tool in wire.TOOLS.values() if self._loopback.allows(tool.method, scopes)
                ]
            )
            actions, following = await self._actions(visit, cursor, scopes)
            tools += [_of_action(action) for action in actions]
            return types.ListToolsResult(tools=tools, next_cursor=following or None)

        return await self._served(context, "tools/list", run)

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> Any:
        """Run a tool. What fails in it is its result; a tool that is none is the protocol's failure."""
        arguments = params.arguments or {}
        action = wire.action_name(params.name)
        tool = wire.TOOLS.get(params.name)
        if action is None and tool is None:
            raise MCPError(code=types.INVALID_PARAMS, message="No such tool.", data={"reason": "NOT_SERVED"})

        as_task = _knows_tasks(context)

        async def begin(visit: Visit, kind: str, request: bytes, wait: float) -> Any:
            patience = min(wait, tasks.QUICK) if as_task else wait
            view = await self._turns.begin(visit, kind, request, wait=patience)
            return _turn(view) if view.over or not as_task else tasks.created(view)

        async def run(visit: Visit) -> Any:
            wire.readable(arguments)
            if tool is None:
                request = wire.execution(action or "", arguments, ids.uuid)
                return await begin(visit, "execute", request, wire.LONGEST_WAIT)
            wire.check(arguments, tool.schema)
            wait = float(arguments.get("wait_seconds", wire.LONGEST_WAIT))
            if tool.name == "send_message":
                return await begin(visit, "send", wire.said(arguments, ids.uuid), wait)
            if tool.name == "get_turn":
                asked = arguments.get("wait_seconds")
                return _turn(await self._turns.look(visit, Handle.read(arguments["turn"]), wait=asked))
            request = wire.request(tool.name, arguments, ids.uuid)
            return answers.tool_done(
                wire.answer(tool.name, await self._loopback.ask(visit, tool.method, request))
            )

        name = f"tools/call {params.name}" if tool else "tools/call action"
        return await self._served(context, name, run, failed=answers.tool_failed)

    async def get_task(self, context: Context, params: tasks.TaskParams) -> dict[str, Any]:
        """Where a task stands."""

        async def run(visit: Visit) -> dict[str, Any]:
            return tasks.state(await self._turns.look(visit, Handle.read(params.task_id), wait=0))

        return await self._of_tasks(context, params, "tasks/get", run)

    async def update_task(self, context: Context, params: tasks.TaskParams) -> dict[str, Any]:
        """Acknowledge input for a task. None of ours asks its client: a person answers in their own app."""

        async def run(visit: Visit) -> dict[str, Any]:
            await self._turns.look(visit, Handle.read(params.task_id), wait=0)
            return {"resultType": "complete"}

        return await self._of_tasks(context, params, "tasks/update", run)

    async def cancel_task(self, context: Context, params: tasks.TaskParams) -> dict[str, Any]:
        """Stop a task's turn; one that is over stays as it is."""

        async def run(visit: Visit) -> dict[str, Any]:
            view = await self._turns.look(visit, Handle.read(params.task_id), wait=0)
            if not view.over:
                request = wire.request("cancel_turn", {"turn": params.task_id}, ids.uuid)
                await self._loopback.ask(visit, wire.CANCEL, request)
            return {"resultType": "complete"}

        return await self._of_tasks(context, params, "tasks/cancel", run)

    async def _of_tasks(
        self,
        context: Context,
        params: tasks.TaskParams,
        name: str,
        run: Callable[[Visit], Awaitable[dict[str, Any]]],
    ) -> dict[str, Any]:
        if not _knows_tasks(context):
            raise tasks.required()
        if context.request.headers.get("mcp-name") != params.task_id:  # type: ignore[union-attr]
            raise tasks.misnamed()
        return await self._served(context, name, run)

    async def list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """The person's context, and their sessions in pages."""

        async def run(visit: Visit) -> types.ListResourcesResult:
            cursor = (params.cursor if params else None) or ""
            wire.readable(cursor)
            page, following = wire.session_page(
                await self._loopback.ask(visit, wire.SESSIONS, wire.sessions(_PAGE, cursor))
            )
            found = [] if cursor else [_resource("mesh://context", "context", "What is known of you")]
            found += [_resource(f"mesh://sessions/{id}", id, title or "Session") for id, title in page]
            return types.ListResourcesResult(resources=found, next_cursor=following or None)

        return await self._served(context, "resources/list", run)

    async def list_templates(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """How resources are named."""

        async def run(visit: Visit) -> types.ListResourceTemplatesResult:
            return types.ListResourceTemplatesResult(
                resource_templates=[
                    types.ResourceTemplate(
                        uri_template=uri, name=name, title=title, mime_type="application/json"
                    )
                    for uri, name, title in _TEMPLATES
                ]
            )

        return await self._served(context, "resources/templates/list", run)

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """Read one. Another person's, and what is none, do not exist."""
        uri = str(params.uri)

        async def run(visit: Visit) -> types.ReadResourceResult:
            reading = wire.reading(uri)
            if reading is None:
                raise NotServed
            text = answers.text(
                reading.told(await self._loopback.ask(visit, reading.method, reading.request))
            )
            return types.ReadResourceResult(
                contents=[types.TextResourceContents(uri=uri, mime_type="application/json", text=text)]
            )

        return await self._served(context, "resources/read", run, about={"uri": uri})

    async def _actions(
        self, visit: Visit, cursor: str, scopes: frozenset[str]
    ) -> tuple[list[wire.Action], str]:
        """A page of actions. While the part of the mesh that has them is away there are none."""
        if not all(self._loopback.allows(method, scopes) for method in (wire.EXECUTE, wire.LIST_ACTIONS)):
            return [], ""
        try:
            return wire.action_page(
                await self._loopback.ask(visit, wire.LIST_ACTIONS, wire.actions(_PAGE, cursor))
            )
        except Refused as refused:
            if cursor or refused.failure.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            return [], ""

    async def _served(
        self,
        context: Context,
        name: str,
        run: Callable[[Visit], Awaitable[T]],
        *,
        failed: Callable[[Any], T] | None = None,
        about: Mapping[str, str] | None = None,
    ) -> T:
        """Serve one request inside the boundary, and log its line."""
        visit: Visit = context.request.scope[VISIT]  # type: ignore[union-attr]
        record = Record(request_id=visit.request_id, caller="user")
        with self._boundary.recorded(f"mcp {name}", record):
            try:
                with self._boundary.guarded(record):
                    return await run(visit)
            except (ServiceError, Refused) as error:
                found = answers.failure(error, visit.request_id)
            record.code, record.reason = found.code.name, found.reason or ""
            if failed is not None:
                return failed(found)
            raise answers.refusal(found, about or {})


_TEMPLATES = (
    ("mesh://sessions/{session_id}", "session", "A session"),
    ("mesh://sessions/{session_id}/messages", "messages", "A session's messages, newest first"),
    ("mesh://sessions/{session_id}/messages{?page_token}", "message-page", "A further page of them"),
    ("mesh://sessions/{session_id}/context", "session-context", "A session's context"),
    ("mesh://sessions/{session_id}/context/{key}", "session-context-item", "One item of it"),
    ("mesh://context/{key}", "context-item", "One item of the person's context"),
)


def _knows_tasks(context: Context) -> bool:
    return tasks.known_to(context.protocol_version, context.session.client_capabilities)


def _user(context: Context) -> User:
    user: User = context.request.scope[USER]  # type: ignore[union-attr]
    return user


def _own(tool: wire.Tool) -> types.Tool:
    hints = types.ToolAnnotations(
        read_only_hint=tool.reads, destructive_hint=False, open_world_hint=tool.name == "send_message"
    )
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.schema,
        annotations=hints,
    )


def _of_action(action: wire.Action) -> types.Tool:
    hints = types.ToolAnnotations(
        read_only_hint=action.reads_only,
        destructive_hint=action.has_effect,
        open_world_hint=action.reaches_out,
    )
    return types.Tool(
        name=wire.tool_name(action.name),
        title=action.name,
        description=action.description,
        input_schema=action.schema,
        annotations=hints,
    )


def _resource(uri: str, name: str, title: str) -> types.Resource:
    return types.Resource(uri=uri, name=name, title=title, mime_type="application/json")


def _turn(view: TurnView) -> types.CallToolResult:
    return answers.tool_done(view.told(), view.words(), failed=view.went_wrong)
