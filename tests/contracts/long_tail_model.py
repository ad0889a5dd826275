"""The function model of pydantic-ai, playing a script of the scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic_ai import messages as pai
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from llm_svc.generation import Message, Part, Request, Role, TextPart, Tool, ToolCall, ToolResult
from llm_svc.providers.script import Ask, Say, Script, Think, Wait

Piece = str | dict[int, DeltaToolCall] | dict[int, DeltaThinkingPart]


def function_model(script: Script) -> FunctionModel:
    """A model of the library that answers as the script says."""

    async def play(messages: list[pai.ModelMessage], info: AgentInfo) -> AsyncIterator[Piece]:
        settings = info.model_settings or {}
        limit, spoken, called = settings.get("max_tokens"), 0, 0
        tools = tuple(Tool(name=tool.name, description="", schema="{}") for tool in info.function_tools)
        request = Request(model="fake-1", messages=tuple(map(_message, messages)), tools=tools)
        for act in script.play(request):
            if isinstance(act, Wait):
                await asyncio.sleep(act.seconds)
            elif limit is not None and spoken >= limit:
                break
            elif isinstance(act, Say):
                spoken += 1
                yield act.text
            elif isinstance(act, Think):
                yield {0: DeltaThinkingPart(content=act.text)}
            elif isinstance(act, Ask):
                called += 1
                half = len(act.arguments) // 2
                yield {called: DeltaToolCall(act.name, act.arguments[:half], tool_call_id=f"call_{called}")}
                yield {called: DeltaToolCall(json_args=act.arguments[half:])}

    return FunctionModel(stream_function=play)


def _message(message: pai.ModelMessage) -> Message:
    parts = tuple(part for theirs in message.parts for part in _part(theirs))
    if isinstance(message, pai.ModelResponse):
        return Message(role=Role.ASSISTANT, parts=parts)
    results = any(isinstance(part, ToolResult) for part in parts)
    system = any(isinstance(part, pai.SystemPromptPart) for part in message.parts)
    return Message(role=Role.SYSTEM if system else Role.TOOL if results else Role.USER, parts=parts)


def _part(part: object) -> tuple[Part, ...]:
    match part:
        case pai.UserPromptPart(content=content):
            texts = [content] if isinstance(content, str) else content
            return tuple(TextPart(text) for text in texts if isinstance(text, str))
        case pai.SystemPromptPart(content=text) | pai.TextPart(content=text):
            return (TextPart(text),)
        case pai.ToolReturnPart():
            return (ToolResult(call_id=part.tool_call_id, name=part.tool_name, text=str(part.content)),)
        case pai.ToolCallPart():
            arguments = part.args_as_json_str()
            return (ToolCall(id=part.tool_call_id, name=part.tool_name, arguments=arguments),)
        case _:
            return ()
