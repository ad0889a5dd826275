"""Actions whose state context_svc owns: named and described here, performed there.

context_svc reads the same arguments; tests/interaction/context_svc/test_host_actions.py runs each example there.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool, ToolFailure

AGENT = "memory"
_Key = Annotated[
    str, msgspec.Meta(pattern="^[a-z0-9_.-]{1,128}$", description="Like trip.hotel: a-z, 0-9, _ . -")
]


class ToRemember(msgspec.Struct, forbid_unknown_fields=True):
    """What to keep."""

    text: Annotated[
        str, msgspec.Meta(min_length=1, max_length=300, description="The fact, in the person's own words")
    ]


class ToRecall(msgspec.Struct, forbid_unknown_fields=True):
    """What to look for."""

    query: Annotated[str, msgspec.Meta(max_length=300, description="Words, or empty for everything")] = ""


class ToSearch(msgspec.Struct, forbid_unknown_fields=True):
    """What to find."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=300, description="Words that were said")]
    limit: Annotated[int, msgspec.Meta(ge=1, le=20, description="How many, 1 to 20")] = 5


class ToRemind(msgspec.Struct, forbid_unknown_fields=True):
    """What to be reminded of, and when."""

    text: Annotated[
        str, msgspec.Meta(min_length=1, max_length=2_000, description="What, in the person's own words")
    ]
    time: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=100,
            description='As the person said it: "in 20 minutes", "tomorrow at 6 pm", "friday 9:00"; or ISO 8601',
        ),
    ]


class ToCancel(msgspec.Struct, forbid_unknown_fields=True):
    """Which reminder to take back."""

    reminder: Annotated[
        str, msgspec.Meta(min_length=1, max_length=200, description="Its id, or words of its text")
    ]


class ToRead(msgspec.Struct, forbid_unknown_fields=True):
    """Which context to read."""

    key: Annotated[str, msgspec.Meta(max_length=128, description="A key or its beginning; empty: all")] = ""


class ToSet(msgspec.Struct, forbid_unknown_fields=True):
    """Which context to set."""

    key: _Key
    value: Annotated[str, msgspec.Meta(max_length=4_000, description="Its value")]


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No arguments."""


async def _elsewhere(arguments: object, setting: Setting) -> Output:
    raise ToolFailure("context_svc performs this.", reason=Reason.ACTION_NOT_FOUND)


def _hosted(name: str, description: str, arguments: type[Any], **more: Any) -> Tool[Any]:
    return Tool(
        name=name,
        description=description,
        arguments=arguments,
        perform=_elsewhere,
        effect=Effect.NONE,
        timeout=10.0,
        hosted=True,
        **{"agent": AGENT, **more},
    )


HOSTED: tuple[Tool[Any], ...] = (
    _hosted(
        "remember",
        "Keeps a fact about the person when they ask you to remember it.",
        ToRemember,
        writes=True,
        examples=(
            Example(
                request="Remember that I am allergic to nuts", arguments={"text": "I am allergic to nuts"}
            ),
        ),
    ),
    _hosted(
        "recall",
        "Finds what is remembered about the person.",
        ToRecall,
        examples=(Example(request="What am I allergic to?", arguments={"query": "allergic"}),),
    ),
    _hosted(
        "search_messages",
        "Finds what was said in earlier conversations, by its words.",
        ToSearch,
        examples=(Example(request="What did I say about the lease?", arguments={"query": "lease"}),),
    ),
    _hosted(
        "set_reminder",
        "Reminds the person of something, once, at a time.",
        ToRemind,
        agent="reminders",
        writes=True,
        wordless=("time",),
        examples=(
            Example(
                request="Remind me tomorrow at 6 pm to call mum",
                arguments={"text": "Call mum", "time": "tomorrow at 6 pm"},
            ),
        ),
    ),
    _hosted(
        "list_reminders",
        "Lists the person's reminders that are still to come.",
        Nothing,
        agent="reminders",
        examples=(Example(request="What are my reminders?", arguments={}),),
    ),
    _hosted(
        "cancel_reminder",
        "Takes a reminder back.",
        ToCancel,
        agent="reminders",
        writes=True,
        examples=(Example(request="Forget the reminder about mum", arguments={"reminder": "mum"}),),
    ),
    _hosted(
        "get_context",
        "Reads what is noted for this conversation and about the person.",
        ToRead,
        agent="context",
        examples=(Example(request="Where are we staying?", arguments={"key": "trip."}),),
    ),
    _hosted(
        "set_context",
        "Notes something for this conversation, to be used later in it.",
        ToSet,
        agent="context",
        writes=True,
        wordless=("key",),
        examples=(
            Example(
                request="Our hotel is the Astoria", arguments={"key": "trip.hotel", "value": "the Astoria"}
            ),
        ),
    ),
)
"""All of them."""
