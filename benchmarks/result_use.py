"""How often the built-in model's answer uses what a tool answered: ``python -m benchmarks.result_use [default|light]``.

Each case of ``result_use.toml`` goes through the room's own provider at its usual temperature, once with the
agent's own system text and once with a short one. Right means: every fact that the case lists is in the answer.
"""

from __future__ import annotations

import asyncio
import sys
import tomllib
from pathlib import Path

import msgspec

from benchmarks.local_model import local_model
from llm_svc.generation import (
    Message,
    Parameters,
    Part,
    Placement,
    Request,
    Role,
    TextDelta,
    TextPart,
    ToolCall,
    ToolResult,
)
from llm_svc.providers.builtin import Builtin
from orchestrator_svc.material import Purpose
from orchestrator_svc.prompt import system_text

CASES = Path(__file__).with_name("result_use.toml")
SYSTEMS = (system_text(Purpose.ANSWER), "Be brief.")
ANSWER_TOKENS = 80
SEED = 1


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question, the call made for it, its result; of each list in `has` one text must be in the answer."""

    says: str
    tool: str
    arguments: str
    result: str
    has: tuple[tuple[str, ...], ...]
    failed: bool = False


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole examination."""

    case: tuple[Case, ...]


async def ask(provider: Builtin, model: str, system: str, case: Case) -> str:
    """The whole answer to one case."""
    call = ToolCall(id="call_1", name=case.tool, arguments=case.arguments)
    result = ToolResult(call_id=call.id, name=case.tool, text=case.result.strip(), failed=case.failed)
    request = Request(
        model=model,
        messages=(
            _message(Role.SYSTEM, TextPart(system)),
            _message(Role.USER, TextPart(case.says)),
            _message(Role.ASSISTANT, call),
            _message(Role.TOOL, result),
        ),
        parameters=Parameters(max_output_tokens=ANSWER_TOKENS, seed=SEED),
        placement=Placement.LOCAL_ONLY,
    )
    return "".join([delta.text async for delta in provider.generate(request) if isinstance(delta, TextDelta)])


def used(case: Case, answer: str) -> bool:
    """Whether the answer holds what the tool said."""
    said = _plain(answer)
    return all(any(_plain(text) in said for text in texts) for texts in case.has)


async def examine(name: str) -> int:
    """Run every case, print each miss and the score. 0 when nine of ten answers used the result."""
    sheet = msgspec.convert(tomllib.loads(CASES.read_text()), Sheet)
    right = 0
    async with local_model(name) as (provider, model):
        for system in SYSTEMS:
            for case in sheet.case:
                answer = await ask(provider, model, system, case)
                right += used(case, answer)
                if not used(case, answer):
                    print(f"  {case.says!r}: {answer!r}")
    asked = len(sheet.case) * len(SYSTEMS)
    print(f"{model}: {right} of {asked} answers use the tool's result")
    return 0 if right >= 0.9 * asked else 1


def _message(role: Role, part: Part) -> Message:
    return Message(role=role, parts=(part,))


def _plain(text: str) -> str:
    return text.lower().replace(",", "")


if __name__ == "__main__":
    sys.exit(asyncio.run(examine(sys.argv[1] if len(sys.argv) > 1 else "default")))
