"""The long tail: the library's failures as ours, and what goes to it and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from pydantic_ai import exceptions as theirs
from pydantic_ai import messages as pai
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, FunctionModel
from pydantic_ai.models.test import TestModel

from chassis.errors import ServiceError
from llm_svc import errors
from llm_svc.generation import (
    Delta,
    ImagePart,
    Parameters,
    ReasoningDelta,
    ReasoningPart,
    Role,
    ToolCall,
    ToolChoice,
)
from llm_svc.providers.connection import Server
from llm_svc.providers.long_tail import LongTail
from tests.unit.llm_svc.windows import CALCULATE, answered, asking, assistant, called, said, user

pytestmark = pytest.mark.requirement("LLM-1", "LLM-5")
SERVER = Server(name="tail", base_url="", models=(), key="sk-canary-1")


async def collect(model: object, *window: object, parameters: Parameters | None = None) -> list[Delta]:
    provider = LongTail(SERVER, {"m": model})  # type: ignore[dict-item]
    asked = asking(*(window or (user("hi"),)), tools=(CALCULATE,), parameters=parameters)  # type: ignore[arg-type]
    async with aclosing(provider.generate(asked)) as deltas:
        return [delta async for delta in deltas]


@pytest.mark.parametrize(
    ("failure", "ours"),
    [
        (theirs.ModelHTTPError(500, "m", b"sk-canary-1"), errors.ProviderFailed),
        (theirs.ModelHTTPError(429, "m", b"sk-canary-1"), errors.ProviderLimited),
        (theirs.ModelHTTPError(401, "m", b"sk-canary-1"), errors.ProviderRefused),
        (theirs.ModelConnectionError("m", "sk-canary-1"), errors.ProviderFailed),
        (theirs.UnexpectedModelBehavior("sk-canary-1"), errors.ProviderGarbage),
        (theirs.UserError("sk-canary-1"), errors.ProviderRefused),
        (TimeoutError(), errors.ProviderTimeout),
    ],
)
async def test_every_failure_of_the_library_is_one_of_ours_and_keeps_no_words(
    failure: Exception, ours: type[ServiceError]
) -> None:
    async def fail(messages: list[pai.ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        raise failure
        yield ""

    with pytest.raises(ours) as raised:
        await collect(FunctionModel(stream_function=fail))
    assert type(raised.value) is ours
    assert "canary" not in f"{raised.value!r} {raised.value.internal}"


async def test_the_librarys_own_test_model_calls_a_tool() -> None:
    deltas = await collect(TestModel())
    assert [delta.name for delta in deltas if isinstance(delta, ToolCall)] == ["calculate"]


async def test_a_whole_window_goes_there() -> None:
    seen: list[pai.ModelMessage] = []

    async def hear(messages: list[pai.ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.extend(messages)
        assert info.model_settings is not None
        assert info.model_settings.get("temperature") == 0.5
        assert info.function_tools == []
        yield "ok"

    window = (
        said(Role.SYSTEM, "Be brief."),
        user("Look:", ImagePart(b"x", "image/png")),
        called(),
        answered(),
        assistant("4."),
        user("And now?"),
    )
    none = Parameters(temperature=0.5, tool_choice=ToolChoice.NONE)
    await collect(FunctionModel(stream_function=hear), *window, parameters=none)
    kinds = [part.part_kind for message in seen for part in message.parts]
    assert kinds == ["system-prompt", "user-prompt", "tool-call", "tool-return", "text", "user-prompt"]


async def test_a_signed_thought_goes_back_and_another_providers_does_not() -> None:
    seen: list[pai.ModelMessage] = []

    async def think(
        messages: list[pai.ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaThinkingPart]]:
        seen[:] = messages
        yield {0: DeltaThinkingPart(content="hm", signature="c2ln")}
        yield "ok"

    model = FunctionModel(stream_function=think)
    thoughts = [delta for delta in await collect(model) if isinstance(delta, ReasoningDelta)]
    assert [thought.text for thought in thoughts] == ["hm", ""]
    ours = ReasoningPart("hm", thoughts[-1].provider_state)
    await collect(
        model, user("x"), assistant(ours, ReasoningPart("no", b'{"of":"anthropic"}'), "y"), user("z")
    )
    back = [part for message in seen for part in message.parts if isinstance(part, pai.ThinkingPart)]
    assert [(part.content, part.signature) for part in back] == [("hm", "c2ln")]


async def test_a_model_whose_library_or_name_is_unknown_is_refused() -> None:
    provider = LongTail(SERVER)
    for name in ("nobody:knows", "groq:llama"):
        with pytest.raises(errors.ProviderRefused):
            async for _ in provider.generate(asking(user("hi"), model=name)):
                pass
