"""Money: what an account may spend in a day, reserved before a run, settled after it, so that no race overspends.

A day is one of UTC. A run reserves what it may cost at most; its model steps are refused beyond that. What a step
did cost is noted as soon as it is known: a run that nobody can end any more is settled with what was noted.
"""

from __future__ import annotations

from dataclasses import dataclass

from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit

DAY_US = 86_400_000_000
_STALE_US = 3_600_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What model steps used: tokens, and money in micro-USD."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0

    def beyond(self, other: Spent) -> Spent:
        """What is more here than there."""
        return Spent(
            input_tokens=max(0, self.input_tokens - other.input_tokens),
            output_tokens=max(0, self.output_tokens - other.output_tokens),
            cost=max(0, self.cost - other.cost),
        )

    def and_also(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=self.cost + other.cost,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What a run may cost; `most` None: no limit. `of_the_day` says that the day leaves no more."""

    most: int | None
    of_the_day: bool = False
    retry_us: int = 0


UNLIMITED = Allowance(most=None)
NOTHING = Spent()


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """What an account spent or reserved on one day and, when there is a limit, what it may; when the day ends."""

    spent: int
    limit: int | None
    reset_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The units that reserve and settle. Limits are micro-USD, None: without.

    Close to the day's limit runs share what is left: one that would get less than `run_limit` while others hold
    reservations waits for them to settle.
    """

    day_limit: int | None = None
    run_limit: int | None = None

    def reserve(self, run_id: str, account_id: str, now_us: int) -> Unit[Allowance | None]:
        """Part of the unit that claims a run: set its money aside. None: it has to wait for other runs."""
        day = now_us // DAY_US
        rows = yield Statement(
            "INSERT INTO ledger (account_id, day) VALUES (:account, :day)"
            " ON CONFLICT (account_id, day) DO UPDATE SET turns = ledger.turns RETURNING cost, reserved",
            {"account": account_id, "day": day},
        )
        allowance = self._allowance(rows[0], day)
        if allowance is None:
            return None
        amount = allowance.most or 0
        yield Statement(
            "UPDATE ledger SET reserved = reserved + :amount WHERE account_id = :account AND day = :day",
            {"account": account_id, "day": day, "amount": amount},
        )
        yield Statement(
            "INSERT INTO reservation (run_id, account_id, day, amount, create_us)"
            " VALUES (:run, :account, :day, :amount, :now)"
            " ON CONFLICT (run_id) DO UPDATE SET amount = reservation.amount + excluded.amount",
            {"run": run_id, "account": account_id, "day": day, "amount": amount, "now": now_us},
        )
        return allowance

    def note(self, run_id: str, spent: Spent) -> Unit[None]:
        """A step of the run did cost this."""
        yield Statement(
            "UPDATE reservation SET cost = cost + :cost, input_tokens = input_tokens + :input,"
            " output_tokens = output_tokens + :output WHERE run_id = :run",
            {"run": run_id, **_columns(spent)},
        )

    def settle(self, run_id: str, spent: Spent | None) -> Unit[None]:
        """Part of the unit that ends a run: count what it used (None: what was noted), free the rest. Once."""
        rows = yield Statement("DELETE FROM reservation WHERE run_id = :run RETURNING *", {"run": run_id})
        for row in rows:
            yield from _count(row, spent or _noted(row))

    def sweep(self, now_us: int) -> Unit[None]:
        """Settle what was reserved an hour ago or earlier for runs that are not under way any more."""
        rows = yield Statement(
            "DELETE FROM reservation WHERE create_us < :old"
            " AND NOT EXISTS (SELECT 1 FROM turn t WHERE t.id = reservation.run_id AND t.state = 2)"
            " AND NOT EXISTS (SELECT 1 FROM job j WHERE j.id = reservation.run_id AND j.state = 2) RETURNING *",
            {"old": now_us - _STALE_US},
        )
        for row in rows:
            yield from _count(row, _noted(row))

    def today(self, account_id: str, now_us: int) -> Unit[Day]:
        """What the account spent today."""
        rows = yield Statement(
            "SELECT cost + reserved AS spent FROM ledger WHERE account_id = :account AND day = :day",
            {"account": account_id, "day": now_us // DAY_US},
        )
        spent = int(rows[0]["spent"]) if rows else 0
        return Day(spent=spent, limit=self.day_limit, reset_us=(now_us // DAY_US + 1) * DAY_US)

    def _allowance(self, row: Row, day: int) -> Allowance | None:
        if self.day_limit is None:
            return Allowance(most=self.run_limit)
        rest = max(0, self.day_limit - row["cost"] - row["reserved"])
        wanted = self.day_limit if self.run_limit is None else self.run_limit
        if rest >= wanted:
            return Allowance(most=wanted)
        if row["reserved"]:
            return None
        return Allowance(most=rest, of_the_day=True, retry_us=(day + 1) * DAY_US)


class Purses:
    """What people see of their money."""

    def __init__(self, database: Database, clock: Clock, ledger: Ledger) -> None:
        self._database = database
        self._clock = clock
        self._ledger = ledger

    async def today(self, account_id: str) -> Day:
        """What the account spent today, and what it may."""
        now_us = self._clock.now_us()
        return await self._database.read(lambda: self._ledger.today(account_id, now_us))


def _columns(spent: Spent) -> dict[str, int]:
    return {"cost": spent.cost, "input": spent.input_tokens, "output": spent.output_tokens}


def _noted(row: Row) -> Spent:
    return Spent(input_tokens=row["input_tokens"], output_tokens=row["output_tokens"], cost=row["cost"])


def _count(row: Row, spent: Spent) -> Unit[None]:
    yield Statement(
        "UPDATE ledger SET turns = turns + 1, cost = cost + :cost, input_tokens = input_tokens + :input,"
        " output_tokens = output_tokens + :output, reserved = reserved - :amount"
        " WHERE account_id = :account AND day = :day",
        {"account": row["account_id"], "day": row["day"], "amount": row["amount"], **_columns(spent)},
    )
