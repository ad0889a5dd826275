"""What a server offers: its tools as this room names, bounds and judges them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import mcp_types

from orchestrator_svc.plugins.plugin import schema_fault
from orchestrator_svc.servers.configuration import Server, digest
from orchestrator_svc.tools.tool import RESULT_BYTES, Effect

TOOLS = 256
_DESCRIPTION = 2_000
_LONGEST_NAME = 64
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ware:
    """A tool of a server. `own_name` is what the server calls it; `fault` is why it cannot be used."""

    name: str
    own_name: str
    description: str
    schema: str
    effect: Effect
    digest: str
    fault: str = ""


def wares(server_name: str, server: Server, tools: Sequence[mcp_types.Tool]) -> Sequence[Ware]:
    """The tools of a server, each under a name that no other has."""
    found: dict[str, Ware] = {}
    for tool in tools[:TOOLS]:
        ware = _ware(server_name, server, tool)
        found.setdefault(ware.name, ware)
    return tuple(found.values())


def _ware(server_name: str, server: Server, tool: mcp_types.Tool) -> Ware:
    schema = tool.input_schema
    description = tool.description or tool.title or f"{tool.name} of {server_name}."
    fault = schema_fault(schema)
    annotations = tool.annotations.model_dump(exclude_none=True) if tool.annotations else None
    return Ware(
        name=_name(server_name, tool.name),
        own_name=tool.name,
        description=description[:_DESCRIPTION],
        schema='{"type":"object"}' if fault else json.dumps(schema, sort_keys=True, ensure_ascii=False),
        effect=_effect(server, tool),
        digest="" if fault else digest(tool.name, description, schema, annotations),
        fault=fault,
    )


def _name(server_name: str, tool_name: str) -> str:
    """`server__tool`, in letters that every model takes; a long one is cut and told apart by its digest."""
    whole = f"{server_name}__{_UNFIT.sub('_', tool_name)}"
    changed = whole != f"{server_name}__{tool_name}" or len(whole) > _LONGEST_NAME
    mark = f"_{sha256(tool_name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}" if changed else ""
    return whole[: _LONGEST_NAME - len(mark)] + mark


def _effect(server: Server, tool: mcp_types.Tool) -> Effect:
    """The operator's word, else the server's; a tool that nobody calls harmless is an EFFECT."""
    if tool.name in server.effects:
        return Effect(server.effects[tool.name])
    reads = tool.annotations is not None and tool.annotations.read_only_hint is True
    return Effect.READS_OUT if reads else Effect.EFFECT


class TooMuch(Exception):
    """The result has more bytes than a result may have."""


def content(result: mcp_types.CallToolResult) -> str:
    """The words of a result; what is no text is named, not shown. Raises TooMuch."""
    parts = [_words(each) for each in result.content]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    told = "\n".join(parts)
    if len(told.encode("utf-8", "replace")) > RESULT_BYTES:
        raise TooMuch
    return told


def _words(block: Any) -> str:
    match block:
        case mcp_types.TextContent(text=text):
            return text
        case mcp_types.ResourceLink(uri=uri, name=name):
            return f"[{name}: {uri}]"
        case mcp_types.EmbeddedResource(resource=mcp_types.TextResourceContents(text=text)):
            return text
        case mcp_types.ImageContent(mime_type=kind) | mcp_types.AudioContent(mime_type=kind):
            return f"[a file of type {kind}, which is not shown]"
        case _:
            return "[content of a kind that is not shown]"


def shown(ware: Ware) -> Mapping[str, str]:
    """A tool as the operator sees it before approving it."""
    return {
        "name": ware.name,
        "tool": ware.own_name,
        "description": ware.description,
        "effect": ware.effect.value,
        "digest": ware.digest,
        "fault": ware.fault,
    }
