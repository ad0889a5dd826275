"""What a person can do beside saying something: branch, bring an answer, empty a session, run an action."""

from __future__ import annotations

from collections.abc import AsyncIterator

from chassis import ids
from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Unit
from context_svc.branches import Again, Branches, Imported, OfflineAnswer
from context_svc.clearing import Cleared, Clearing
from context_svc.entrance import Entrance, Opening
from context_svc.executions import Execution, Executions
from context_svc.journal import Publish
from context_svc.readers import Frame
from context_svc.runs import Runs
from context_svc.turns import Accepted


class TurnCommands:
    """Commands on the sessions of an account. Each carries an id of the client's and may be repeated."""

    def __init__(
        self,
        *,
        database: Database,
        entrance: Entrance,
        branches: Branches,
        executions: Executions,
        clearing: Clearing,
        runs: Runs,
        publish: Publish,
        clock: Clock,
    ) -> None:
        self._database = database
        self._entrance = entrance
        self._branches = branches
        self._executions = executions
        self._clearing = clearing
        self._runs = runs
        self._publish = publish
        self._clock = clock

    async def regenerate(self, again: Again) -> Accepted:
        """Ask for another answer; durable on return. Raises what `Branches.regenerate` raises."""

        def unit(now_us: int) -> Unit[Accepted]:
            return self._branches.regenerate(again, turn_id=ids.uuid(), answer_id=ids.uuid(), now_us=now_us)

        return await self._entrance.begin(
            Opening(account_id=again.key.account_id, session_id=again.session_id, unit=unit)
        )

    async def import_answer(self, offline: OfflineAnswer) -> Imported:
        """Store a device's answer; durable on return. Raises what `Branches.import_answer` raises."""
        found: list[Imported] = []

        def unit(now_us: int) -> Unit[Accepted]:
            imported = yield from self._branches.import_answer(
                offline, turn_id=ids.uuid(), answer_id=ids.uuid(), now_us=now_us
            )
            found.append(imported)
            return imported.accepted

        submission = offline.submission
        await self._entrance.begin(
            Opening(account_id=submission.account_id, session_id=submission.session_id, unit=unit)
        )
        return found[-1]

    async def execute(self, user: User, execution: Execution, *, follow: bool) -> AsyncIterator[Frame]:
        """Run one action, then (to `follow`) tell everything of its turn. Raises what `Executions.accept` raises."""

        def unit(now_us: int) -> Unit[Accepted]:
            return self._executions.accept(execution, turn_id=ids.uuid(), answer_id=ids.uuid(), now_us=now_us)

        opening = Opening(account_id=user.account, session_id=execution.session_id, unit=unit)
        async for frame in self._entrance.follow(user, opening, follow=follow):
            yield frame

    async def clear(self, user: User, session_id: str, request_id: str) -> int:
        """Empty a session, also in the store's files; says through which sequence. Raises SessionNotFound."""
        cleared: Cleared = await self._database.write(
            session_id,
            lambda: self._clearing.clear(user.account, session_id, request_id, self._clock.now_us()),
            committed=lambda done: self._publish(done.entries),
        )
        for turn_id in cleared.running:
            self._runs.stop(turn_id, "")
        await self._database.scrub()
        return cleared.through
