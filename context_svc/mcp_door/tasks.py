"""Long calls as tasks (SEP-2663, extension `io.modelcontextprotocol/tasks` of revision 2026-07-28).

A task is a turn: its id is the turn's handle, what is known of it is in the log, and it ends without its client.
The SDK carries the extension's shapes and does not serve it; these are its three methods.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from context_svc.mcp_door import answers
from context_svc.wire.mcp_turn import TurnView

EXTENSION = "io.modelcontextprotocol/tasks"
POLL_MS = 2000
QUICK = 1.0  # seconds in which a turn may end before it becomes a task

_STATUS = {"running": "working", "waiting": "working", "cancelled": "cancelled"}


class TaskParams(types.RequestParams):
    """Which task is meant."""

    task_id: str


def known_to(version: str, capabilities: types.ClientCapabilities | None) -> bool:
    """Whether the client of this request said that it knows tasks."""
    extensions = None if capabilities is None else capabilities.extensions
    return version in MODERN_PROTOCOL_VERSIONS and EXTENSION in (extensions or {})


def required() -> MCPError:
    """The failure of a client that asks for tasks and did not say that it knows them."""
    return MCPError(
        code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        message="The client must declare the tasks extension.",
        data={"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
    )


def misnamed() -> MCPError:
    """The failure of a request whose header names another task than its body."""
    return MCPError(code=types.HEADER_MISMATCH, message="Mcp-Name does not name the task of the request.")


def created(view: TurnView) -> dict[str, Any]:
    """Instead of a result: the task that will have it."""
    return {"resultType": "task", **_task(view)}


def state(view: TurnView) -> dict[str, Any]:
    """Where a task stands; its result once it has one."""
    told = {"resultType": "complete", **_task(view)}
    if told["status"] == "completed":
        done = answers.tool_done(view.told(), view.words(), failed=view.went_wrong)
        told["result"] = done.model_dump(by_alias=True, mode="json", exclude_none=True)
    return told


def _task(view: TurnView) -> dict[str, Any]:
    task: dict[str, Any] = {
        "taskId": str(view.handle),
        "status": _STATUS.get(view.state, "completed"),  # a turn that failed is a result that says so
        "createdAt": _moment(view.began_us),
        "lastUpdatedAt": _moment(view.at_us),
        "ttlMs": None,
        "pollIntervalMs": POLL_MS,
    }
    if view.state == "waiting":
        task["statusMessage"] = view.waits_for()
    return task


def _moment(us: int) -> str:
    return (
        datetime.fromtimestamp(us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
