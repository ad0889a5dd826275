"""A model step that is cut off is charged once for what it read and said: at the end, in the receipt, in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.generation.v1 import generation_pb2
from assistant.message.v1 import message_pb2
from assistant.turn.v1 import turn_pb2
from chassis import ids
from chassis.clock import SystemClock
from chassis.database import Database, Statement, Unit
from chassis.errors import ServiceError
from context_svc import session_rows
from context_svc.claims import orphans
from context_svc.ledger import Ledger
from llm_svc import wire
from llm_svc.catalogue import Catalogue
from llm_svc.errors import ProviderFailed
from llm_svc.generation import (
    Activity,
    Delta,
    Doing,
    Finished,
    FinishReason,
    Request,
    TextDelta,
    TokenCount,
    ToolCall,
    Usage,
)
from llm_svc.providers.provider import Model, Price
from llm_svc.servicer import GenerationServicer
from llm_svc.steps import Runs
from tests.interaction.context_svc.agent import World, agent_room
from tests.interaction.context_svc.conversation_room import (
    ACCOUNT,
    PlayedOrchestrator,
    Room,
    Stage,
    Turn,
    kinds,
    room,
)

pytestmark = pytest.mark.requirement("CHAT-5", "CHAT-11", "LLM-6")

READ, WRITTEN = (
    1_000_000,
    10_000_000,
)  # micro-USD for a million tokens: 1 for a token read, 10 for one written
PAID = Model(
    id="paid",
    display_name="Paid",
    provider="far",
    context_tokens=8_000,
    output_tokens=1_000,
    price=Price(input=READ, output=WRITTEN, looked_up=0),
)
WORDS = "Once upon a time there was"
EXACT = Usage(input_tokens=50, output_tokens=5)


@dataclass
class Paid:
    """A provider that plays one list of deltas for each step, then says nothing more until it is let go."""

    steps: list[Sequence[Delta | ServiceError]]
    name: str = "far"
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def models(self) -> Sequence[Model]:
        return (PAID,)

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        deltas = self.steps.pop(0)
        try:
            for delta in deltas:
                if isinstance(delta, ServiceError):
                    raise delta
                yield delta
            if not self.steps:
                self.asked.set()
                await asyncio.Event().wait()
        finally:
            self.let_go.set()

    async def count(self, request: Request) -> TokenCount:
        return TokenCount(tokens=1, estimated=False)

    async def close(self) -> None:
        return None


class Llm(GenerationServicer):
    """llm_svc's service for whoever asks."""

    def __init__(self, provider: Paid) -> None:
        catalogue = Catalogue([provider])
        self._open = Runs(catalogue, SystemClock())
        super().__init__(self._open, catalogue)

    async def Generate(
        self, request_iterator: AsyncIterator[generation_pb2.GenerateRequest], context: object
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        frames = (wire.frame(message) async for message in request_iterator)
        async with aclosing(self._open.serve(frames)) as events:
            async for event in events:
                yield wire.response(event)


@asynccontextmanager
async def paid_room(database: Database, folder: Path, provider: Paid) -> AsyncIterator[Room]:
    """The room, the agent loop and the model steps as they are, over that provider."""
    rules = Ledger(day_limit=1_000_000, run_limit=500_000)
    world = World(folder / "world")
    async with agent_room(database, world, [], model=Llm(provider).register, ledger=rules) as (here, _):
        yield here


async def booked(here: Room) -> dict[str, int]:
    """What the ledger says, and what is still set aside."""
    names = ("turns", "input_tokens", "output_tokens", "cost", "reserved")

    def unit() -> Unit[dict[str, int]]:
        sums = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in names)
        rows = yield Statement(f"SELECT {sums} FROM ledger WHERE account_id = :account", {"account": ACCOUNT})
        held = yield Statement("SELECT count(*) AS held FROM reservation")
        return {**{name: rows[0][name] for name in names}, "held": held[0]["held"]}

    return await here.database.read(unit)


async def receipt(here: Room, session: str, turn: str) -> chat_pb2.TurnReceipt:
    request = chat_pb2.GetTurnReceiptRequest(session_id=session, turn_id=turn)
    return (await here.stub.GetTurnReceipt(request, timeout=30)).receipt


async def sent(here: Room, session: str) -> str:
    """A message whose turn runs; the turn."""
    request = chat_pb2.SendMessageRequest(message=here.message(session, "hello"), follow=False)
    (accepted,) = [frame.event async for frame in here.stub.SendMessage(request, timeout=30)]
    return accepted.turn_id


async def ended(here: Room, session: str) -> list[chat_pb2.ChatEvent]:
    """The log once the turn is over."""
    last = ("turn_finished", "turn_failed", "turn_cancelled")
    return await here.until(session, lambda events: kinds(events)[-1] in last)


def has_said(text: str) -> Callable[[list[chat_pb2.ChatEvent]], bool]:
    return lambda events: text in "".join(event.text_delta.text for event in events)


async def the_same_everywhere(here: Room, session: str, turn: str, used: message_pb2.Usage) -> None:
    """What the turn's end says is what the receipt and the ledger say."""
    told = await receipt(here, session, turn)
    assert told.usage == used
    assert sum(step.usage.cost_micro_usd for step in told.steps) == used.cost_micro_usd
    assert await booked(here) == {
        "turns": 1,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cost": used.cost_micro_usd,
        "reserved": 0,
        "held": 0,
    }


def priced(used: message_pb2.Usage) -> int:
    return used.input_tokens + 10 * used.output_tokens


@pytest.mark.parametrize("said", [True, False])
async def test_a_cancelled_step_is_charged_for_its_prompt_and_its_words(
    database: Database, tmp_path: Path, said: bool
) -> None:
    told = Usage(input_tokens=50, output_tokens=1)
    provider = Paid([[told, TextDelta(WORDS)] if said else [Doing(Activity.QUEUED)]])
    async with paid_room(database, tmp_path, provider) as here:
        session = await here.session()
        turn = await sent(here, session)
        await asyncio.wait_for(provider.asked.wait(), 30)
        if said:
            await here.until(session, has_said(WORDS))
        request = chat_pb2.CancelTurnRequest(session_id=session, turn_id=turn, request_id=ids.uuid())
        await here.stub.CancelTurn(request, timeout=30)
        cancelled = (await ended(here, session))[-1].turn_cancelled
        assert provider.let_go.is_set()
        used = cancelled.usage
        assert used.estimated
        assert used.input_tokens == 50 if said else used.input_tokens > 0
        assert used.output_tokens == (int(len(WORDS) / 3.6) + 1 if said else 0)
        assert used.cost_micro_usd == priced(used)
        await the_same_everywhere(here, session, turn, used)


async def test_a_step_whose_provider_breaks_off_is_charged_for_what_it_told_and_said(
    database: Database, tmp_path: Path
) -> None:
    told = Usage(input_tokens=50, output_tokens=1)
    provider = Paid([[told, TextDelta(WORDS), ProviderFailed()]])
    async with paid_room(database, tmp_path, provider) as here:
        session = await here.session()
        turn = await sent(here, session)
        failed = (await ended(here, session))[-1].turn_failed
        assert failed.reason == error_pb2.ERROR_REASON_PARTIAL
        assert failed.usage.input_tokens == 50
        assert failed.usage.output_tokens == int(len(WORDS) / 3.6) + 1
        assert failed.usage.estimated
        await the_same_everywhere(here, session, turn, failed.usage)


async def test_a_provider_that_refuses_is_charged_nothing(database: Database, tmp_path: Path) -> None:
    refusal = [ProviderFailed()]
    async with paid_room(database, tmp_path, Paid([refusal, refusal, refusal])) as here:
        session = await here.session()
        turn = await sent(here, session)
        failed = (await ended(here, session))[-1].turn_failed
        assert failed.reason == error_pb2.ERROR_REASON_PROVIDER_FAILED
        await the_same_everywhere(here, session, turn, message_pb2.Usage())


TWO_STEPS: list[Sequence[Delta | ServiceError]] = [
    [
        ToolCall(id="a", name="current_time", arguments='{"time_zone":"UTC"}'),
        EXACT,
        Finished(FinishReason.TOOL_CALLS),
    ],
    [TextDelta(WORDS)],
]


def both(usage: message_pb2.Usage, told: chat_pb2.TurnReceipt) -> None:
    """The first step as its provider reported it, the second as it was counted."""
    first, second = (step.usage for step in told.steps)
    assert (first.input_tokens, first.output_tokens, first.cost_micro_usd) == (50, 5, 100)
    assert not first.estimated
    assert second.estimated
    assert second.input_tokens > 0
    assert second.output_tokens == int(len(WORDS) / 3.6) + 1
    assert second.cost_micro_usd == priced(second)
    assert usage.cost_micro_usd == first.cost_micro_usd + second.cost_micro_usd


async def test_a_turn_that_is_cut_off_with_its_process_is_charged_to_its_last_word(
    database: Database, tmp_path: Path
) -> None:
    """As a draining room does with what outlasts it."""
    async with paid_room(database, tmp_path, Paid([*TWO_STEPS])) as here:
        session = await here.session()
        turn = await sent(here, session)
        await here.until(session, has_said(WORDS))
        here.runs.cut_off()
        failed = (await ended(here, session))[-1].turn_failed
        assert failed.reason == error_pb2.ERROR_REASON_OWNER_LOST
        both(failed.usage, await receipt(here, session, turn))
        await the_same_everywhere(here, session, turn, failed.usage)


async def test_the_turn_of_a_dead_owner_is_charged_from_the_log_and_once(
    database: Database, tmp_path: Path
) -> None:
    async with paid_room(database, tmp_path, Paid([*TWO_STEPS])) as here:
        session = await here.session()
        turn = await sent(here, session)
        await here.until(session, has_said(WORDS))
        await here.database.write(session, lambda: _owned_by_the_dead(session))
        (claim,) = await here.database.read(lambda: orphans(database.engine, 0))
        await here.runs.bury(claim)
        await here.runs.bury(claim)
        failed = (await ended(here, session))[-1].turn_failed
        here.runs.stop(turn, "")  # the process that was taken for dead wakes up, and finds its claim lost
        async with asyncio.timeout(30):
            while turn in here.runs:  # noqa: ASYNC110 - the end of its run has no event
                await asyncio.sleep(0.01)
        both(failed.usage, await receipt(here, session, turn))
        await the_same_everywhere(here, session, turn, failed.usage)


async def test_a_session_deleted_in_the_middle_of_a_step_leaves_its_cost_in_the_ledger(
    database: Database, tmp_path: Path
) -> None:
    async with paid_room(database, tmp_path, Paid([*TWO_STEPS])) as here:
        session = await here.session()
        turn = await sent(here, session)
        await here.until(session, has_said(WORDS))

        def gone() -> Unit[Callable[[], None]]:
            held = yield from session_rows.lock(session, ACCOUNT)
            assert held is not None
            then = yield from here.log_of_sessions.forget(session)
            yield from session_rows.delete(held)
            return then

        await here.database.write(session, gone, committed=lambda then: then())
        async with asyncio.timeout(30):
            while turn in here.runs or (await booked(here))["held"]:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        kept = await booked(here)
    assert (kept["turns"], kept["reserved"]) == (1, 0)
    assert kept["output_tokens"] == 5 + int(len(WORDS) / 3.6) + 1
    assert kept["cost"] == kept["input_tokens"] + 10 * kept["output_tokens"]


async def test_an_attempt_that_died_before_it_began_is_not_charged_for_the_words_of_the_one_before(
    database: Database,
) -> None:
    """A turn is given back between two steps, claimed again, and its owner dies at once."""

    async def gives_back(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        if stage.start.attempt > 1:
            begun.set()
            await asyncio.Event().wait()
        yield stage.started()
        yield stage.says(WORDS)
        step = stage.step(input_tokens=9, output_tokens=7, cost_micro_usd=40)
        step.receipt.step.finish_reason = message_pb2.FINISH_REASON_TOOL_CALLS
        yield step
        yield Turn(suspended=turn_pb2.Suspended(resumption=turn_pb2.Resumption(text=WORDS)))

    begun = asyncio.Event()
    orchestrator = PlayedOrchestrator()
    orchestrator.play = gives_back
    async with room(database, orchestrator) as here:
        session = await here.session()
        turn = await sent(here, session)
        await asyncio.wait_for(begun.wait(), 30)
        await here.database.write(session, lambda: _owned_by_the_dead(session))
        (claim,) = await here.database.read(lambda: orphans(database.engine, 0))
        await here.runs.bury(claim)
        failed = (await ended(here, session))[-1].turn_failed
        assert failed.usage.cost_micro_usd == 40
        assert failed.partial.parts[0].text == WORDS
        assert len((await receipt(here, session, turn)).steps) == 1
        assert (await booked(here))["cost"] == 40


def _owned_by_the_dead(session: str) -> Unit[None]:
    yield Statement("UPDATE turn SET owner = 'dead' WHERE session_id = :session", {"session": session})
