"""Short ways to write windows and requests."""

from __future__ import annotations

from llm_svc.generation import Message, Parameters, Part, Request, Role, TextPart, Tool, ToolCall, ToolResult

CALCULATE = Tool(name="calculate", description="Arithmetic.\nMore words.", schema='{"type":"object"}')
CURRENT_TIME = Tool(name="current_time", description="The time.", schema='{"type":"object"}')
WEATHER = Tool(name="get_weather", description="The weather of a place.", schema='{"type":"object"}')


def said(role: Role, *parts: Part | str) -> Message:
    return Message(role=role, parts=tuple(TextPart(p) if isinstance(p, str) else p for p in parts))


def user(*parts: Part | str) -> Message:
    return said(Role.USER, *parts)


def assistant(*parts: Part | str) -> Message:
    return said(Role.ASSISTANT, *parts)


def called(arguments: str = '{"expression":"2+2"}', *, name: str = "calculate", id: str = "c1") -> Message:
    return assistant(ToolCall(id=id, name=name, arguments=arguments))


def answered(text: str = "4", *, name: str = "calculate", id: str = "c1") -> Message:
    return said(Role.TOOL, ToolResult(call_id=id, name=name, text=text))


def asking(
    *messages: Message, tools: tuple[Tool, ...] = (), parameters: Parameters | None = None, model: str = "m"
) -> Request:
    return Request(model=model, messages=messages, tools=tools, parameters=parameters or Parameters())
