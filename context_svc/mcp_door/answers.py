"""What MCP clients are answered: results of tools, and failures in the protocol's own form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from google.rpc.status_pb2 import Status
from mcp.shared.exceptions import MCPError

from chassis.errors import ServiceError
from chassis.status import Failure, from_status, to_status
from context_svc.mcp_door.loopback import Refused

DOMAIN = "assistant.mesh"
_INVALID = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "UNIMPLEMENTED"})


def failure(error: ServiceError | Refused, request_id: str) -> Failure:
    """What a client may learn of either."""
    if isinstance(error, Refused):
        return error.failure
    return from_status(status(error, request_id))


def status(error: ServiceError, request_id: str) -> Status:
    """The public form of a failure."""
    return to_status(error, domain=DOMAIN, request_id=request_id)


def told(found: Failure) -> dict[str, Any]:
    """A failure as JSON: the same words as on the other doors."""
    error: dict[str, Any] = {"reason": found.reason or "INTERNAL", "message": found.message}
    if found.metadata:
        error["metadata"] = dict(found.metadata)
    if found.violations:
        error["violations"] = [
            {"field": each.field, "description": each.description} for each in found.violations
        ]
    if found.retry_after is not None:
        error["retry_after_seconds"] = found.retry_after.total_seconds()
    return error


def tool_failed(found: Failure) -> types.CallToolResult:
    """A tool that failed: for the model to read, with the reason beside it."""
    error = told(found)
    fields = ", ".join(f"{each.field}: {each.description}" for each in found.violations)
    words = f"{found.message} ({error['reason']}{'; ' + fields if fields else ''})"
    return types.CallToolResult(
        content=[types.TextContent(text=words)], structured_content={"error": error}, is_error=True
    )


def tool_done(
    content: Mapping[str, Any], words: str | None = None, *, failed: bool = False
) -> types.CallToolResult:
    """A tool that answered, for programs and for models."""
    return types.CallToolResult(
        content=[types.TextContent(text=words if words is not None else text(content))],
        structured_content=dict(content),
        is_error=failed,
    )


def refusal(found: Failure, about: Mapping[str, str]) -> MCPError:
    """A failure of the protocol: what was asked for does not exist, or cannot be asked."""
    code = types.INVALID_PARAMS if found.code.name in _INVALID else types.INTERNAL_ERROR
    return MCPError(code=code, message=found.message, data={**told(found), **about})


def text(content: Mapping[str, Any]) -> str:
    """JSON for whoever reads text."""
    return json.dumps(content, ensure_ascii=False)
