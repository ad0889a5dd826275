"""Tool choice for models that cannot be trusted with it: a question of one word, and constrained arguments.

Small models answer a request with ``tools`` in whatever form they like. So the model is asked twice, each
time held to a grammar: first for a tool's name or ``none``, then for arguments that fit the tool's schema.
The first question begins with the same text for the same tools, which the engine keeps ready.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from llm_svc.generation import (
    Message,
    Request,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    after_last_user,
    calls_in,
    last_user_text,
)

NONE = "none"
SEARCH = "find_tools"  # looking for a tool does nothing of what was asked
MAX_ROUTED_STEPS = 4
EARLIER_CHARS = 240
RESULT_CHARS = 300
MAX_OWN = 2
_OWN = re.compile(r'"(.{1,200})" -> (\{.{0,400}\})')
_DATA = Path(__file__).with_name("routing.toml")


class ToolLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tool in the router's own words."""

    name: str
    summary: str


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says, and the right choice for it."""

    says: str
    tool: str = NONE
    arguments: str = ""


class Lesson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the router is taught."""

    instructions: str
    none: str
    tool: tuple[ToolLine, ...] = ()
    example: tuple[Example, ...] = ()


def load_lesson(path: Path = _DATA) -> Lesson:
    """Read a lesson file. Raises OSError or msgspec.ValidationError when it cannot be used."""
    return msgspec.convert(tomllib.loads(path.read_text()), Lesson)


def is_needed(request: Request) -> bool:
    """Whether this step may ask for a tool at all."""
    if not request.tools or request.parameters.tool_choice is ToolChoice.NONE:
        return False
    rounds = sum(message.role is Role.TOOL for message in after_last_user(request.messages))
    return rounds < MAX_ROUTED_STEPS and bool(last_user_text(request.messages))


def prefix(lesson: Lesson, tools: Sequence[Tool]) -> tuple[Message, ...]:
    """The part of the question that is the same for every message: instructions, tools and examples."""
    offered = {tool.name for tool in tools}
    told = {line.name: line.summary for line in lesson.tool}
    lines = [f"{tool.name}: {told.get(tool.name, _first_line(tool.description))}" for tool in tools]
    system = "\n".join([lesson.instructions.strip(), *lines, f"{NONE}: {lesson.none}"])
    shown = [e for e in lesson.example if e.tool == NONE or e.tool in offered]
    shown += [e for tool in tools if tool.name not in told for e in own_examples(tool)]
    pairs = [message for example in shown for message in _pair(example)]
    return (_said(Role.SYSTEM, system), *pairs)


def own_examples(tool: Tool) -> list[Example]:
    """The worked examples that a tool brings along, in the lines of its description after the first."""
    found = (_OWN.fullmatch(line) for line in tool.description.splitlines()[1:])
    return [Example(says=each[1], tool=tool.name, arguments=each[2]) for each in found if each][:MAX_OWN]


def question(request: Request) -> Message:
    """The part that differs: what was said before, what the person says, and what was done already."""
    text = last_user_text(request.messages)
    done = _done(after_last_user(request.messages))
    return _said(Role.USER, _earlier(request.messages) + text + done)


def grammar(tools: Sequence[Tool], choice: ToolChoice) -> str:
    """A GBNF grammar of the names that may be answered."""
    names = [tool.name for tool in tools] + ([] if choice is ToolChoice.REQUIRED else [NONE])
    return "root ::= " + " | ".join(msgspec.json.encode(name).decode() for name in names)


def continued(prompt: str, name: str) -> str:
    """The rendered question with the model's own first answer, where the arguments go on."""
    return f"{prompt}{name}\n"


def is_repeated(request: Request, name: str, arguments: str) -> bool:
    """Whether this very call was made since the person spoke."""
    wanted = (name, _canonical(arguments))
    made = calls_in(after_last_user(request.messages))
    return any((call.name, _canonical(call.arguments)) == wanted for call in made)


def _pair(example: Example) -> tuple[Message, Message]:
    answer = example.tool if example.tool == NONE else f"{example.tool}\n{example.arguments}"
    return _said(Role.USER, example.says), _said(Role.ASSISTANT, answer)


def _said(role: Role, text: str) -> Message:
    return Message(role=role, parts=(TextPart(text),))


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:EARLIER_CHARS]


def _earlier(messages: Sequence[Message]) -> str:
    """The exchange before the newest user message, so that "and in Paris?" can be understood."""
    spoken = [m for m in messages if m.role in (Role.USER, Role.ASSISTANT) and m.text]
    users = [at for at, message in enumerate(spoken) if message.role is Role.USER]
    if len(users) < 2:
        return ""
    before = spoken[users[-2] : users[-1]]
    lines = [f"{message.role.value}: {message.text[:EARLIER_CHARS]}" for message in before]
    return "Said before:\n" + "\n".join(lines) + "\n\nThe message: "


def _done(messages: Sequence[Message]) -> str:
    calls = {call.id: call for call in calls_in(tuple(messages)) if call.name != SEARCH}
    results = [part for m in messages for part in m.parts if isinstance(part, ToolResult)]
    lines = [_done_line(calls[result.call_id], result) for result in results if result.call_id in calls]
    return "\nDone already:\n" + "\n".join(lines) if lines else ""


def _done_line(call: ToolCall, result: ToolResult) -> str:
    return f"{call.name} {call.arguments} = {result.text[:RESULT_CHARS]}"


def _canonical(arguments: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments), order="sorted").decode()
    except msgspec.DecodeError:
        return arguments
