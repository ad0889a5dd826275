"""Money: turns at once never spend more than the day allows, and what is spent is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from assistant.chat.v1 import chat_pb2
from assistant.error.v1 import error_pb2
from assistant.turn.v1 import turn_pb2
from chassis.database import Database, Statement, Unit
from chassis.testing import FakeClock
from context_svc.claims import orphans
from context_svc.ledger import DAY_US, Ledger
from tests.interaction.context_svc.conversation_room import (
    ACCOUNT,
    PlayedOrchestrator,
    Room,
    Stage,
    room,
)

pytestmark = pytest.mark.requirement("LLM-6")
PRICE = 70


async def ledger(here: Room) -> dict[str, int]:
    names = ("turns", "input_tokens", "cost", "reserved")

    def unit() -> Unit[dict[str, int]]:
        sums = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in names)
        rows = yield Statement(
            f"SELECT {sums} FROM ledger WHERE account_id = :account",
            {"account": ACCOUNT},
        )
        held = yield Statement("SELECT count(*) AS held FROM reservation")
        return {**{name: rows[0][name] for name in names}, "held": held[0]["held"]}

    return await here.database.read(unit)


def refused(stage: Stage) -> turn_pb2.RunTurnResponse:
    reason = error_pb2.ERROR_REASON_COST_LIMIT
    failed = chat_pb2.TurnFailed(reason=reason, message="Too expensive.")
    return stage.event(turn_failed=failed)


class Provider:
    """A model whose every call costs the same and is refused when the turn's rest does not cover it."""

    def __init__(self, calls: int = 1) -> None:
        self.calls = calls
        self.charged = 0
        self.at_once = 0
        self.most_at_once = 0

    async def play(self, stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        yield stage.started()
        rest, used = stage.start.budget.max_cost_micro_usd, 0
        for _ in range(self.calls):
            if rest < PRICE:
                self.at_once -= 1
                yield refused(stage)
                return
            rest, used = rest - PRICE, used + PRICE
            self.charged += PRICE
            yield stage.step(input_tokens=1, cost_micro_usd=PRICE)
            await asyncio.sleep(0)
        self.at_once -= 1
        yield stage.finished("so", input_tokens=self.calls, cost_micro_usd=used)


async def test_sixteen_turns_at_once_spend_no_more_than_the_day_allows(database: Database) -> None:
    orchestrator, provider = PlayedOrchestrator(), Provider(calls=2)
    orchestrator.play = provider.play
    limit = 10 * PRICE
    rules = Ledger(day_limit=limit, run_limit=2 * PRICE)
    async with room(database, orchestrator, ledger=rules, running_per_account=16) as here:
        sessions = [await here.session() for _ in range(16)]
        ends = [events[-1] for events in await asyncio.gather(*(here.say(each, "hi") for each in sessions))]
        counted = await ledger(here)
    finished = [each for each in ends if each.HasField("turn_finished")]
    failed = [each.turn_failed for each in ends if each.HasField("turn_failed")]
    assert provider.most_at_once > 1
    assert (len(finished), len(failed)) == (5, 11)
    assert provider.charged == counted["cost"] == limit
    assert counted["turns"] == 16
    assert (counted["reserved"], counted["held"]) == (0, 0)
    assert {each.reason for each in failed} == {error_pb2.ERROR_REASON_COST_LIMIT}


async def test_a_turn_beyond_the_day_says_when_to_come_back_and_the_next_day_it_runs(
    database: Database,
) -> None:
    orchestrator, provider, clock = PlayedOrchestrator(), Provider(), FakeClock()
    orchestrator.play = provider.play
    rules = Ledger(day_limit=PRICE, run_limit=PRICE)
    async with room(database, orchestrator, clock=clock, ledger=rules) as here:
        session = await here.session()
        assert (await here.say(session, "one"))[-1].HasField("turn_finished")
        failed = (await here.say(session, "two"))[-1].turn_failed
        tomorrow = (clock.now_us() // DAY_US + 1) * DAY_US
        assert failed.reason == error_pb2.ERROR_REASON_COST_LIMIT
        assert failed.retry_time.ToMicroseconds() == tomorrow
        assert "limit of money" in failed.message
        clock.jump(timedelta(microseconds=tomorrow - clock.now_us()))
        assert (await here.say(session, "three"))[-1].HasField("turn_finished")


async def test_a_free_model_answers_when_the_money_of_the_day_is_used_up(database: Database) -> None:
    async def free(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        assert stage.start.budget.max_cost_micro_usd == 0
        yield stage.finished("here")

    orchestrator = PlayedOrchestrator()
    orchestrator.play = free
    async with room(database, orchestrator, ledger=Ledger(day_limit=0, run_limit=PRICE)) as here:
        assert (await here.say(await here.session(), "hi"))[-1].HasField("turn_finished")


async def test_what_a_killed_run_had_told_of_is_charged(database: Database) -> None:
    """Its owner is dead, and nobody knows what its last call did cost: all that was told before is counted."""
    noted = asyncio.Event()

    async def hangs(stage: Stage) -> AsyncIterator[turn_pb2.RunTurnResponse]:
        yield stage.started()
        yield stage.step(input_tokens=5, cost_micro_usd=PRICE)
        yield stage.says("so")
        noted.set()
        await asyncio.Event().wait()

    orchestrator = PlayedOrchestrator()
    orchestrator.play = hangs
    async with room(database, orchestrator, ledger=Ledger(day_limit=1_000, run_limit=500)) as here:
        session = await here.session()
        sent = chat_pb2.SendMessageRequest(message=here.message(session, "hi"), follow=False)
        assert [frame async for frame in here.stub.SendMessage(sent)]
        await asyncio.wait_for(noted.wait(), 30)
        await here.until(session, lambda events: any(each.HasField("text_delta") for each in events))
        assert (await ledger(here))["reserved"] == 500
        await here.database.write(session, lambda: _owned_by_the_dead(session))
        (claim,) = await here.database.read(lambda: orphans(database.engine, 0))
        await here.runs.bury(claim)
        counted = await ledger(here)
        told = chat_pb2.GetTurnReceiptRequest(session_id=session, turn_id=claim.turn_id)
        assert (await here.stub.GetTurnReceipt(told)).receipt.state == 6
    assert (counted["cost"], counted["input_tokens"], counted["turns"]) == (PRICE, 5, 1)
    assert (counted["reserved"], counted["held"]) == (0, 0)


async def test_money_set_aside_for_a_run_that_vanished_is_freed(database: Database) -> None:
    rules = Ledger(day_limit=100, run_limit=60)
    async with room(database) as here:
        await here.database.write("l", lambda: rules.reserve("gone", ACCOUNT, 0))
        assert await here.database.write("l", lambda: rules.reserve("next", ACCOUNT, 0)) is None
        await here.database.write("l", lambda: rules.sweep(60_000_000))
        assert (await ledger(here))["reserved"] == 60
        await here.database.write("l", lambda: rules.sweep(2 * 3_600_000_000))
        assert (await ledger(here))["reserved"] == 0
        allowed = await here.database.write("l", lambda: rules.reserve("next", ACCOUNT, 0))
    assert allowed is not None
    assert allowed.most == 60


def _owned_by_the_dead(session: str) -> Unit[None]:
    yield Statement("UPDATE turn SET owner = 'dead' WHERE session_id = :session", {"session": session})
