from __future__ import annotations

from collections.abc import Iterable

import pytest

from chassis.tasks import Tasks
from chassis.testing import eventually
from llm_svc.forgetting import Forgetting

pytestmark = pytest.mark.requirement("ID-8")


async def test_engines_forget_once_for_each_account_that_newly_ended() -> None:
    told: list[frozenset[str]] = []
    forgot: list[str] = []

    def answers(accounts: Iterable[str]) -> None:
        told.append(frozenset(accounts))

    async def engine() -> None:
        forgot.append("all")

    forgetting = Forgetting(answers, [engine])
    async with Tasks() as tasks:
        running = tasks.spawn("forget", forgetting.run())
        forgetting.ended(["ended before the start"])
        forgetting.ended(["ended before the start", "ada"])
        await eventually(lambda: forgot == ["all"])
        forgetting.ended(["ended before the start", "ada"])
        forgetting.ended(["ada", "bob"])
        await eventually(lambda: forgot == ["all", "all"])
        running.cancel()
    assert told[-1] == {"ada", "bob"}
