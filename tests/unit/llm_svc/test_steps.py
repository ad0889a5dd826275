"""Runs of model steps: what is refused before a provider is asked, what grows the window, what ends a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from chassis.errors import ServiceError
from chassis.testing import FakeClock
from llm_svc.catalogue import Catalogue
from llm_svc.errors import (
    ContextTooLong,
    CostLimit,
    FrameUnexpected,
    ModelNotLocal,
    ParameterUnsupported,
    ProviderFailed,
    ProviderTimeout,
    UnknownModel,
)
from llm_svc.events import Event, Started, StepDone, StepFailed
from llm_svc.frames import Cancel, Frame, Results, Start
from llm_svc.generation import (
    Activity,
    Delta,
    Doing,
    Finished,
    FinishReason,
    ImagePart,
    Parameters,
    Placement,
    Request,
    TextDelta,
    TokenCount,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from llm_svc.providers import script
from llm_svc.providers.provider import Model, Price
from llm_svc.providers.scripted import Scripted
from llm_svc.steps import Runs
from tests.unit.llm_svc.windows import CALCULATE, WEATHER, asking, user

pytestmark = pytest.mark.requirement("LLM-6", "LLM-2")
SCRIPT = script.load(script.DEFAULT_SCRIPT)
TEXT = Model(id="remote", display_name="R", provider="told", context_tokens=1000, output_tokens=100)


class Told:
    """A provider whose deltas the test gives; it says what it was asked and whether it was let go."""

    name = "told"

    def __init__(self, *deltas: Delta | ServiceError, model: Model = TEXT) -> None:
        self._deltas = deltas
        self._model = model
        self.asked: list[Request] = []
        self.blocked = asyncio.Event()
        self.released = asyncio.Event()

    async def models(self) -> Sequence[Model]:
        return (self._model,)

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        try:
            for delta in self._deltas:
                if isinstance(delta, ServiceError):
                    raise delta
                yield delta
            self.blocked.set()
            await asyncio.Event().wait()
        finally:
            self.released.set()

    async def count(self, request: Request) -> TokenCount:
        return TokenCount(tokens=1, estimated=False)

    async def close(self) -> None:
        return None


class Caller:
    """The other end of a run: frames go in when the test says so, events are kept."""

    def __init__(self, provider: Told | Scripted, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.events: list[Event] = []
        self.changed = asyncio.Event()
        self._runs = Runs(Catalogue([provider]), self.clock)
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()

    def __rshift__(self, frame: Frame | None) -> Caller:
        self._frames.put_nowait(frame)
        return self

    async def run(self) -> list[Event]:
        async with asyncio.timeout(20):
            async for event in self._runs.serve(self._read()):
                self._keep(event)
        return self.events

    async def until(self, seen: Callable[[list[Event]], bool]) -> None:
        async with asyncio.timeout(20):
            while not seen(self.events):
                self.changed.clear()
                await self.changed.wait()

    async def _read(self) -> AsyncIterator[Frame]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    def _keep(self, event: Event) -> None:
        self.events.append(event)
        self.changed.set()


def scripted() -> Caller:
    clock = FakeClock()
    return Caller(Scripted(SCRIPT, clock), clock)


def start(text: str, **more: object) -> Start:
    return Start(request=replace(asking(user(text), model="scripted", tools=(CALCULATE,)), **more))  # type: ignore[arg-type]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_one_step_starts_speaks_and_ends() -> None:
    events = await (scripted() >> start("hello") >> None).run()
    assert isinstance(events[0], Started)
    assert text_of(events) == "You said: hello"
    assert isinstance(events[-1], StepDone)
    assert events[-1].reason is FinishReason.STOP


async def test_results_begin_the_next_step_in_a_window_that_has_grown() -> None:
    results = (ToolResult(call_id="call_1", name="calculate", text="391"),)
    events = await (scripted() >> start("What is 17*23?") >> Results(results=results) >> None).run()
    ends = [event for event in events if isinstance(event, StepDone)]
    assert [end.reason for end in ends] == [FinishReason.TOOL_CALLS, FinishReason.STOP]
    assert text_of(events) == "The answer is 391."
    assert sum(isinstance(event, Started) for event in events) == 1


async def test_a_window_that_was_fitted_anew_replaces_the_grown_one() -> None:
    results = (ToolResult(call_id="call_1", name="calculate", text="391"),)
    anew = Results(results=results, messages=(user("hello"),))
    events = await (scripted() >> start("What is 17*23?") >> anew >> None).run()
    assert text_of(events) == "You said: hello"


class Noting(Scripted):
    """The scripted provider; it keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(SCRIPT, FakeClock())
        self.asked: list[Request] = []

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        async for delta in super().generate(request):
            yield delta


@pytest.mark.requirement("AGT-2")
@pytest.mark.parametrize(
    ("told", "then"), [(None, [CALCULATE]), ((CALCULATE, WEATHER), [CALCULATE, WEATHER])]
)
async def test_the_tools_are_those_of_the_start_until_results_bring_others(
    told: tuple[Tool, ...] | None, then: list[Tool]
) -> None:
    provider = Noting()
    results = (ToolResult(call_id="call_1", name="calculate", text="391"),)
    await (Caller(provider) >> start("What is 17*23?") >> Results(results=results, tools=told) >> None).run()
    assert [list(request.tools) for request in provider.asked] == [[CALCULATE], then]


async def test_results_of_calls_that_were_not_asked_are_refused() -> None:
    wrong = Results(results=(ToolResult(call_id="other", name="calculate", text="391"),))
    with pytest.raises(FrameUnexpected):
        await (scripted() >> start("What is 17*23?") >> wrong).run()


async def test_a_run_begins_with_start_and_only_once() -> None:
    with pytest.raises(FrameUnexpected):
        await (scripted() >> Cancel()).run()
    with pytest.raises(FrameUnexpected):
        await (scripted() >> start("What is 17*23?") >> start("again")).run()


async def test_a_caller_that_closes_its_side_after_a_tool_call_ends_the_run() -> None:
    events = await (scripted() >> start("What is 17*23?") >> None).run()
    assert isinstance(events[-1], StepDone)


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (asking(user("x"), model="gpt-unknown"), UnknownModel),
        (replace(asking(user("x"), model="remote"), placement=Placement.LOCAL_ONLY), ModelNotLocal),
        (asking(user(ImagePart(b"x", "image/png")), model="remote"), ParameterUnsupported),
        (asking(user("word " * 10_000), model="remote"), ContextTooLong),
        (
            asking(user("x"), model="remote", parameters=Parameters(json_schema="{}")),
            ParameterUnsupported,
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_before_a_provider_is_asked(
    request_: Request, refusal: type[ServiceError]
) -> None:
    provider = Told(model=replace(TEXT, json_schema=False))
    caller = Caller(provider)
    with pytest.raises(refusal):
        await (caller >> Start(request=request_)).run()
    assert provider.asked == []
    assert caller.events == []


async def test_a_step_whose_worst_case_is_too_dear_is_refused() -> None:
    priced = replace(TEXT, price=Price(input=1_000_000, output=10_000_000, looked_up=0))
    with pytest.raises(CostLimit):
        await (
            Caller(Told(model=priced)) >> Start(request=asking(user("x"), model="remote"), max_cost=999)
        ).run()


async def test_the_cost_is_that_of_the_tokens_used() -> None:
    priced = replace(TEXT, price=Price(input=1_000_000, output=10_000_000, looked_up=0))
    provider = Told(Usage(input_tokens=3, output_tokens=2), Finished(FinishReason.STOP), model=priced)
    caller = Caller(provider) >> Start(request=asking(user("x"), model="remote"), max_cost=5_000)
    running = asyncio.ensure_future(caller.run())
    await caller.until(lambda events: any(isinstance(event, StepDone) for event in events))
    running.cancel()
    done = caller.events[-1]
    assert isinstance(done, StepDone)
    assert done.cost == 23


@pytest.mark.parametrize("failure", [ProviderFailed(), ProviderTimeout()])
async def test_a_failure_after_the_start_is_said_in_the_stream(failure: ServiceError) -> None:
    caller = Caller(Told(TextDelta("Hel"), failure))
    events = await (caller >> Start(request=asking(user("x"), model="remote"))).run()
    failed = events[-1]
    assert isinstance(failed, StepFailed)
    assert failed.error is failure
    assert failed.usage.estimated
    assert failed.usage.output_tokens > 0


async def test_cancel_lets_the_provider_go_at_once_and_says_what_was_used() -> None:
    provider = Told(TextDelta("Hel"))
    caller = Caller(provider) >> Start(request=asking(user("x"), model="remote"))
    running = asyncio.ensure_future(caller.run())
    await provider.blocked.wait()
    caller >> Cancel()
    events = await running
    assert provider.released.is_set()
    assert isinstance(events[-1], StepDone)
    assert events[-1].reason is None
    assert events[-1].usage.estimated
    assert events[-1].usage.input_tokens > events[-1].usage.output_tokens > 0


@pytest.mark.requirement("CHAT-5")
async def test_a_cancel_before_the_first_word_charges_the_prompt_that_the_provider_has() -> None:
    priced = replace(TEXT, price=Price(input=1_000_000, output=10_000_000, looked_up=0))
    provider = Told(Doing(Activity.QUEUED), model=priced)
    caller = Caller(provider) >> Start(request=asking(user("x"), model="remote"))
    running = asyncio.ensure_future(caller.run())
    await provider.blocked.wait()
    caller >> Cancel()
    done = (await running)[-1]
    assert isinstance(done, StepDone)
    assert done.usage == Usage(input_tokens=done.cost, output_tokens=0, estimated=True)
    assert done.cost > 0


@pytest.mark.requirement("CHAT-5")
async def test_a_cancel_before_the_provider_was_asked_charges_nothing() -> None:
    provider = Told()
    caller = Caller(provider) >> Start(request=asking(user("x"), model="remote")) >> Cancel()
    done = (await caller.run())[-1]
    assert provider.asked == []
    assert isinstance(done, StepDone)
    assert (done.usage, done.cost) == (Usage(input_tokens=0, output_tokens=0), 0)


@pytest.mark.requirement("CHAT-5")
@pytest.mark.parametrize("cut", [ProviderFailed(), None])
async def test_a_step_that_is_cut_is_charged_with_what_was_reported_and_what_was_said_beyond(
    cut: ServiceError | None,
) -> None:
    """Anthropic tells of the prompt first, and of the words only at the end."""
    told = Usage(input_tokens=12, output_tokens=1, cached_tokens=5)
    said = TextDelta("Once upon a time there was")
    provider = Told(told, said, cut) if cut else Told(told, said)
    caller = Caller(provider) >> Start(request=asking(user("x"), model="remote"))
    running = asyncio.ensure_future(caller.run())
    if cut is None:
        await provider.blocked.wait()
        caller >> Cancel()
    ended = (await running)[-1]
    assert isinstance(ended, StepDone | StepFailed)
    assert ended.usage == replace(told, output_tokens=8, estimated=True)


@pytest.mark.requirement("CHAT-5")
async def test_a_provider_that_refuses_charges_nothing() -> None:
    events = await (Caller(Told(ProviderTimeout())) >> Start(request=asking(user("x"), model="remote"))).run()
    failed = events[-1]
    assert isinstance(failed, StepFailed)
    assert (failed.usage, failed.cost) == (Usage(input_tokens=0, output_tokens=0), 0)


async def test_a_broken_stream_lets_the_provider_go_at_once() -> None:
    provider = Told(TextDelta("Hel"))
    caller = Caller(provider) >> Start(request=asking(user("x"), model="remote"))
    running = asyncio.ensure_future(caller.run())
    await provider.blocked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert provider.released.is_set()


async def test_a_cancel_while_results_are_awaited_ends_the_run() -> None:
    events = await (scripted() >> start("What is 17*23?") >> Cancel()).run()
    assert not any(isinstance(event, StepFailed) for event in events)


async def test_ten_quiet_seconds_are_answered_with_a_sign_of_life() -> None:
    provider = Told(Doing(Activity.QUEUED))
    caller = Caller(provider) >> Start(request=asking(user("x"), model="remote"))
    running = asyncio.ensure_future(caller.run())
    await provider.blocked.wait()
    await caller.clock.asleep()
    await caller.clock.advance(timedelta(seconds=9.9))
    assert len(caller.events) == 1
    await caller.clock.advance(timedelta(seconds=0.2))
    assert caller.events[1:] == [Doing(Activity.QUEUED)]
    await caller.clock.advance(timedelta(seconds=10.1))
    assert len(caller.events) == 3
    running.cancel()


async def test_a_provider_that_just_stops_is_garbage() -> None:
    class Silent(Told):
        async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
            yield TextDelta("x")

    events = await (Caller(Silent()) >> Start(request=asking(user("x"), model="remote"))).run()
    assert isinstance(events[-1], StepFailed)
    assert events[-1].error.reason == "PROVIDER_GARBAGE"


async def test_a_call_passes_whole() -> None:
    events = await (scripted() >> start("What is 17*23?") >> None).run()
    assert ToolCall(id="call_1", name="calculate", arguments='{"expression":"17*23"}') in events
