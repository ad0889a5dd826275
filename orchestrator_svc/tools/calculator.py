"""calculate: arithmetic that a model would get wrong by heart."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orchestrator_svc.errors import Reason
from orchestrator_svc.tools.expression import MAX_LENGTH, ExpressionError, evaluate
from orchestrator_svc.tools.tool import Effect, Example, Output, Setting, Tool, ToolFailure


class Calculation(msgspec.Struct, forbid_unknown_fields=True):
    """What to work out."""

    expression: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=MAX_LENGTH,
            description="Numbers, + - * / // % **, brackets; sqrt abs round floor ceil min max sin cos tan "
            "exp log pi e",
        ),
    ]


async def _calculate(arguments: Calculation, setting: Setting) -> Output:
    try:
        return Output(content=evaluate(arguments.expression))
    except ExpressionError as error:
        raise ToolFailure(
            f"The expression cannot be worked out: {error}.",
            reason=Reason.ARGUMENTS_INVALID,
            field="expression",
        ) from error


CALCULATOR = Tool(
    name="calculate",
    description="Works out an arithmetic expression exactly. Use it for every calculation.",
    arguments=Calculation,
    perform=_calculate,
    agent="calculator",
    effect=Effect.NONE,
    timeout=5.0,
    examples=(Example(request="What is 15% of 80?", arguments={"expression": "80 * 15%"}),),
)
