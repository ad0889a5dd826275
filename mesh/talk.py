"""One conversation at this terminal: ask, show the answer while it grows, and stop it when told."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from chassis import ids
from chassis.clock import Clock
from chassis.tasks import Tasks
from mesh import answer
from mesh.errors import CallFailed
from mesh.peers import Conversation
from mesh.terminal import View
from mesh.turns import follow


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    once: str | None = None
    as_json: bool = False
    session: str | None = None
    model: str | None = None


class Talk:
    """One conversation at this terminal."""

    def __init__(
        self, conversation: Conversation, view: View, wish: Wish, clock: Clock, tasks: Tasks
    ) -> None:
        self._conversation, self._view, self._clock, self._tasks = conversation, view, clock, tasks
        self._documented = wish.as_json
        self.model = wish.model
        self.session = wish.session
        self.turn = ""  # the last one that ran here

    async def ask(self, text: str, approve: Callable[[], Awaitable[bool]] | None) -> answer.Body:
        """Send a message and show its turn; answer its last event, or what it waits for when nobody can be
        asked.

        Ctrl-C stops the turn, and keeps what was said. Raises CallFailed.
        """
        if self.session is None:
            self.session = await self._conversation.create_session(ids.uuid())
        question = answer.Question(id=ids.uuid(), session=self.session, text=text, model=self.model)
        turn = _Turn(self._conversation, self.session, self._tasks)
        try:
            with_events = follow(self._conversation, question, self._clock, documented=self._documented)
            async with turn.interruptible(), aclosing(with_events) as events:  # type: ignore[type-var]
                return await self._show(events, turn, approve)
        finally:
            self.turn = turn.id or self.turn
            self._view.end()

    async def _show(
        self,
        events: AsyncIterator[answer.Event],
        turn: "_Turn",
        approve: Callable[[], Awaitable[bool]] | None,
    ) -> answer.Body:
        async for event in events:
            turn.runs(event.turn)
            self._view.show(event)
            if isinstance(event.body, answer.ApprovalAsked | answer.Asked) and approve is None:
                return event.body
            if isinstance(event.body, answer.ApprovalAsked) and approve is not None:
                self._view.end()
                await turn.approve(event.body, allowed=await approve())
            if isinstance(event.body, answer.Last):
                return event.body
        raise AssertionError("a followed turn ends with its last event")


class _Turn:
    """The turn that is being shown, and how the person can act on it."""

    def __init__(self, conversation: Conversation, session: str, tasks: Tasks) -> None:
        self.id = ""
        self._conversation, self._session, self._tasks = conversation, session, tasks
        self._stopped = False

    def runs(self, turn: str) -> None:
        """Learn the turn's id; a Ctrl-C that came before it is carried out now."""
        if not self.id and turn:
            self.id = turn
            if self._stopped:
                self._stop()

    async def approve(self, asked: answer.ApprovalAsked, *, allowed: bool) -> None:
        """Answer an approval. Raises CallFailed."""
        await self._conversation.approve(self._session, self.id, ids.uuid(), asked, allowed=allowed)

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Inside the block Ctrl-C stops the turn; a second one leaves at once."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupted() -> None:
            if self._stopped:
                task.cancel()
            self._stopped = True
            if self.id:
                self._stop()

        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _stop(self) -> None:
        self._tasks.spawn("cancel", self._cancel())

    async def _cancel(self) -> None:
        try:
            await self._conversation.cancel(self._session, self.id, ids.uuid())
        except CallFailed:  # it was over already, or the connection is gone: the stream tells
            return
