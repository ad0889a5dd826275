"""What a turn may still use, and which limit it has reached."""

from __future__ import annotations

from dataclasses import replace

from orchestrator_svc.conversation import Usage
from orchestrator_svc.errors import Reason
from orchestrator_svc.material import Budget, Counters, ModelChoice

LIMITS = {
    Reason.STEP_LIMIT: "The turn reached its limit of model steps.",
    Reason.CALL_LIMIT: "The turn reached its limit of actions.",
    Reason.TOOL_TIME_LIMIT: "The turn's actions used up their time.",
    Reason.TOKEN_LIMIT: "The turn reached its limit of tokens.",
    Reason.COST_LIMIT: "The turn would cost more than what is left to spend.",
    Reason.TURN_TIMEOUT: "The turn took too long.",
}


class Spending:
    """Counts what a turn uses against its budget. `counters` is what earlier runs of the turn used."""

    def __init__(self, budget: Budget, counters: Counters) -> None:
        self._budget = budget
        self.counters = counters

    def step(self) -> None:
        """A model step begins."""
        self.counters = replace(self.counters, steps=self.counters.steps + 1)

    def call(self) -> None:
        """An action was asked for."""
        self.counters = replace(self.counters, calls=self.counters.calls + 1)

    def tool_time(self, seconds: float) -> None:
        """An action ran so long."""
        self.counters = replace(self.counters, tool_time=self.counters.tool_time + seconds)

    def usage(self, usage: Usage) -> None:
        """A model step used this."""
        self.counters = replace(self.counters, usage=self.counters.usage + usage)

    @property
    def tool_time_left(self) -> float:
        """Seconds that actions may still run."""
        return max(0.0, self._budget.max_tool_time - self.counters.tool_time)

    @property
    def cost_left(self) -> int | None:
        """Micro-USD that may still be spent; None: no limit."""
        limit = self._budget.max_cost_micro_usd
        return None if limit is None else max(0, limit - self.counters.usage.cost_micro_usd)

    @property
    def last_step(self) -> bool:
        """Whether the step that runs or comes next is the last one, or no call may follow it."""
        return self.counters.steps + 1 >= self._budget.max_steps or self.calls_used_up

    @property
    def calls_used_up(self) -> bool:
        """Whether no more action may run."""
        return self.counters.calls >= self._budget.max_calls or self.tool_time_left <= 0

    def over_call(self) -> Reason | None:
        """The limit that one more call breaks in the step that runs."""
        if self.counters.steps >= self._budget.max_steps:
            return Reason.STEP_LIMIT
        if self.counters.calls >= self._budget.max_calls:
            return Reason.CALL_LIMIT
        return Reason.TOOL_TIME_LIMIT if self.tool_time_left <= 0 else None

    def over_step(self) -> Reason | None:
        """The limit that one more model step breaks."""
        used = self.counters.usage
        if self.counters.steps >= self._budget.max_steps:
            return Reason.STEP_LIMIT
        if self._budget.max_tokens and used.input_tokens + used.output_tokens >= self._budget.max_tokens:
            return Reason.TOKEN_LIMIT
        if self.cost_left == 0 and used.cost_micro_usd:
            return Reason.COST_LIMIT
        return None


def estimated(choice: ModelChoice, read: int, written: int) -> Usage:
    """What a step of so many tokens is charged when nobody reported them; money rounded up."""
    cost = -(-(read * choice.input_price + written * choice.output_price) // 1_000_000)
    return Usage(input_tokens=read, output_tokens=written, estimated=True, cost_micro_usd=cost)
