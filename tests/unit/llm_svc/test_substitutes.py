"""Another model's answer: only as configured, only before the first token, never where content must not go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from chassis.errors import ServiceError
from chassis.testing import FakeClock
from llm_svc.catalogue import Catalogue
from llm_svc.errors import ProviderRefused, ProviderTimeout
from llm_svc.events import Event, Started, StepDone, StepFailed
from llm_svc.frames import Frame, Results, Start
from llm_svc.generation import (
    Delta,
    Finished,
    FinishReason,
    ImagePart,
    Parameters,
    Part,
    Placement,
    TextDelta,
    ToolCall,
    ToolResult,
)
from llm_svc.providers.provider import Model, Price
from llm_svc.steps import Runs
from tests.unit.llm_svc.test_attempts import Moody
from tests.unit.llm_svc.windows import CALCULATE, asking, user

pytestmark = pytest.mark.requirement("LLM-4")
STOP = Finished(FinishReason.STOP)
HELLO: Sequence[Delta | ServiceError] = (TextDelta("Hello"), STOP)
DOWN: Sequence[Delta | ServiceError] = (ProviderTimeout(),)


class Known(Moody):
    """A moody provider with one model of its own name."""

    def __init__(self, name: str, *calls: Sequence[Delta | ServiceError], **facts: object) -> None:
        super().__init__(*calls)
        self.name = name
        model = Model(id=name, display_name=name, provider=name, context_tokens=9000, output_tokens=100)
        self._model = replace(model, **facts)  # type: ignore[arg-type]

    async def models(self) -> Sequence[Model]:
        return (self._model,)


async def run(
    providers: Sequence[Known], *frames: Frame, fallbacks: Sequence[str] = ("second",)
) -> list[Event]:
    async def read() -> AsyncIterator[Frame]:
        for frame in frames:
            yield frame

    runs = Runs(Catalogue(providers, fallbacks=fallbacks), FakeClock())
    return [event async for event in runs.serve(read())]


def start(*parts: Part | str, **more: object) -> Start:
    asked = asking(user(*(parts or ("hi",))), model="first", tools=(CALCULATE,))
    facts = {name: more.pop(name) for name in ("placement", "parameters") if name in more}
    return Start(request=replace(asked, **facts), **more)  # type: ignore[arg-type]


def started(events: list[Event]) -> Started:
    (one,) = [event for event in events if isinstance(event, Started)]
    return one


async def test_the_configured_model_answers_and_says_whose_place_it_takes() -> None:
    events = await run([Known("first", DOWN), Known("second", HELLO)], start())
    assert started(events).choice.model.id == "second"
    assert started(events).fallback_from == "first"
    assert events[1:2] == [TextDelta("Hello")]
    assert isinstance(events[-1], StepDone)


async def test_without_a_configured_one_the_failure_is_said() -> None:
    second = Known("second", HELLO)
    events = await run([Known("first", DOWN), second], start(), fallbacks=())
    assert started(events).fallback_from == ""
    assert isinstance(events[-1], StepFailed)
    assert second.asked == 0


async def test_after_the_first_token_no_other_model_goes_on() -> None:
    second = Known("second", HELLO)
    events = await run([Known("first", [TextDelta("Hel"), ProviderTimeout()]), second], start())
    assert started(events).choice.model.id == "first"
    failed = events[-1]
    assert isinstance(failed, StepFailed)
    assert failed.usage.output_tokens > 0
    assert second.asked == 0


async def test_a_model_that_somebody_chose_is_never_replaced() -> None:
    second = Known("second", HELLO)
    events = await run([Known("first", DOWN), second], start(explicit=True))
    assert isinstance(events[-1], StepFailed)
    assert second.asked == 0


@pytest.mark.requirement("LLM-3")
async def test_content_that_must_stay_here_is_never_shown_to_a_remote_model() -> None:
    second = Known("second", HELLO)
    events = await run([Known("first", DOWN, local=True), second], start(placement=Placement.LOCAL_ONLY))
    assert isinstance(events[-1], StepFailed)
    assert second.asked == 0
    local = Known("third", HELLO, local=True)
    events = await run(
        [Known("first", DOWN, local=True), second, local],
        start(placement=Placement.LOCAL_ONLY),
        fallbacks=("second", "third"),
    )
    assert started(events).choice.model.id == "third"
    assert second.asked == 0


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        ({"vision": False}, start(ImagePart(b"x", "image/png"))),
        ({"sampling": False}, start(parameters=Parameters(temperature=0.5))),
        ({"json_schema": False}, start(parameters=Parameters(json_schema="{}"))),
        ({"price": Price(input=1, output=10**9, looked_up=0)}, start(max_cost=5)),
    ],
)
async def test_a_model_that_cannot_do_it_or_costs_too_much_is_passed_over(
    facts: dict[str, object], asked: Start
) -> None:
    second = Known("second", HELLO, **facts)
    events = await run([Known("first", DOWN, vision=True), second], asked)
    assert isinstance(events[-1], StepFailed)
    assert second.asked == 0


async def test_when_all_fail_the_chosen_models_failure_is_told() -> None:
    events = await run([Known("first", DOWN), Known("second", [ProviderRefused()])], start())
    assert started(events).choice.model.id == "first"
    failed = events[-1]
    assert isinstance(failed, StepFailed)
    assert failed.error.reason == "PROVIDER_TIMEOUT"


async def test_a_later_step_stays_with_its_model() -> None:
    call = ToolCall(id="c1", name="calculate", arguments="{}")
    first = Known("first", [call, Finished(FinishReason.TOOL_CALLS)], DOWN)
    second = Known("second", HELLO)
    results = Results(results=(ToolResult(call_id="c1", name="calculate", text="4"),))
    events = await run([first, second], start(), results)
    assert isinstance(events[-1], StepFailed)
    assert second.asked == 0
