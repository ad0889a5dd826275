"""find_tools: further actions, found by what they do. A model calls it when what it is offered does not help."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool

NAME = "find_tools"
_DESCRIPTION, _END = 200, "\n"  # of a description a result shows so many characters of the first line


class ToFind(msgspec.Struct, forbid_unknown_fields=True):
    """What to look for."""

    query: Annotated[
        str, msgspec.Meta(min_length=1, max_length=300, description="What the action should do, in English")
    ]
    limit: Annotated[int, msgspec.Meta(ge=1, le=8, description="How many, 1 to 8")] = 5


def wanted(arguments: str) -> ToFind | None:
    """What a call of it looks for; None when its arguments do not fit."""
    try:
        return msgspec.json.decode(arguments, type=ToFind)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


async def _find_tools(arguments: ToFind, setting: Setting) -> Output:
    found = setting.find(arguments.query, arguments.limit)
    if not found.specs:
        others = f" Others are of: {', '.join(found.agents)}." if found.agents else ""
        return Output(content=f"No action is described in these words.{others}")
    lines = [f"{spec.name}: {spec.description.partition(_END)[0][:_DESCRIPTION]}" for spec in found.specs]
    more = [f"({found.more} more answer to these words.)"] if found.more else []
    return Output(content="\n".join(("Nothing is done yet. Call one of these now:", *lines, *more)))


FIND_TOOLS = Tool(
    name=NAME,
    description="Finds further actions by what they do; they can be called in the next step. "
    "Use it when no other action here can do what is asked.",
    arguments=ToFind,
    perform=_find_tools,
    agent="actions",
    effect=Effect.NONE,
    timeout=5.0,
    examples=(Example(request="Turn the heating down", arguments={"query": "set heating temperature"}),),
)
