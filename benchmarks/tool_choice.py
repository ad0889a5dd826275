"""How often the built-in model asks for the right tool: ``python -m benchmarks.tool_choice [default|light|tiny]``.

Each prompt of ``tool_choice.toml`` goes once through the room's own provider at temperature 0. Right means: the
right name, or none where none is needed. Arguments are counted apart: they fit the schema and hold what was said.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import msgspec

from benchmarks.local_model import local_model
from llm_svc.generation import (
    Message,
    Parameters,
    Placement,
    Request,
    Role,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
)
from llm_svc.providers.builtin import Builtin

PROMPTS = Path(__file__).with_name("tool_choice.toml")
SYSTEM = "You are a helpful assistant."


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sentence; `tool` names what is right, nothing where none is needed."""

    says: str
    tool: tuple[str, ...] = ()
    has: tuple[str, ...] = ()


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole examination."""

    tool: tuple[Tool, ...]
    prompt: tuple[Prompt, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the model chose, its arguments, and how long the choice took."""

    name: str
    arguments: str
    seconds: float


async def ask(provider: Builtin, sheet: Sheet, prompt: Prompt, model: str) -> Answer:
    """One prompt. The text of an answer is not waited for: its first token means that no tool was chosen."""
    request = Request(
        model=model,
        messages=(
            Message(role=Role.SYSTEM, parts=(TextPart(SYSTEM),)),
            Message(role=Role.USER, parts=(TextPart(prompt.says),)),
        ),
        tools=sheet.tool,
        parameters=Parameters(temperature=0.0, max_output_tokens=48),
        placement=Placement.LOCAL_ONLY,
    )
    began = time.perf_counter()
    stream = provider.generate(request)
    try:
        async for delta in stream:
            match delta:
                case ToolCall(name=name, arguments=arguments):
                    return Answer(name=name, arguments=arguments, seconds=time.perf_counter() - began)
                case TextDelta():
                    break
                case _:
                    pass
    finally:
        await stream.aclose()
    return Answer(name="", arguments="", seconds=time.perf_counter() - began)


def chose_right(prompt: Prompt, answer: Answer) -> bool:
    """Whether the name is a right one, or there is none where none is needed."""
    return answer.name in prompt.tool if prompt.tool else not answer.name


def argued_right(sheet: Sheet, prompt: Prompt, answer: Answer) -> bool:
    """Whether the arguments fit the tool's schema and hold what the person said."""
    schema = next(tool.schema for tool in sheet.tool if tool.name == answer.name)
    try:
        jsonschema.validate(msgspec.json.decode(answer.arguments), msgspec.json.decode(schema))
    except (jsonschema.ValidationError, msgspec.DecodeError):
        return False
    return all(word in answer.arguments.lower() for word in prompt.has)


async def examine(name: str) -> int:
    """Run every prompt, print each miss and the score. 0 when nine of ten choices were right."""
    sheet = msgspec.convert(tomllib.loads(PROMPTS.read_text()), Sheet)
    async with local_model(name) as (provider, model):
        await ask(provider, sheet, Prompt(says="Hi"), model)  # reads what every question begins with
        answers = [await ask(provider, sheet, prompt, model) for prompt in sheet.prompt]
    return report(model, sheet, answers)


def report(model: str, sheet: Sheet, answers: list[Answer]) -> int:
    """Print the misses and the score."""
    right = argued = called = 0
    for prompt, answer in zip(sheet.prompt, answers, strict=True):
        fits = chose_right(prompt, answer)
        right += fits
        if not fits:
            print(f"  {prompt.says!r}: {answer.name or 'none'} instead of {'/'.join(prompt.tool) or 'none'}")
        elif answer.name:
            called += 1
            held = argued_right(sheet, prompt, answer)
            argued += held
            if not held:
                print(f"  {prompt.says!r}: {answer.name} {answer.arguments}")
    needed = sum(bool(prompt.tool) for prompt in sheet.prompt)
    taken = statistics.median(answer.seconds for answer in answers)
    print(
        f"{model}: {right} of {len(answers)} choices right ({needed} need a tool), "
        f"arguments right in {argued} of {called}, {taken:.2f} s in the middle"
    )
    return 0 if right >= 0.9 * len(answers) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(examine(sys.argv[1] if len(sys.argv) > 1 else "default")))
