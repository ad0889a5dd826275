"""One conversation at this terminal: ask, show the answer while it grows, and stop it when told."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from chassis import ids
from chassis.clock import Clock
from chassis.tasks import Tasks
from mesh import answer
from mesh.consent import Person
from mesh.errors import CallFailed, NothingSaid
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
        self._said = self._turn = ""  # the last message and the last turn here
        self._open: answer.Question | answer.Again | None = None  # until its turn was seen to end
        self.model = wish.model
        self.session = wish.session
        self.turn = ""  # the last one that ran here

    def go_on(self, session: str | None) -> None:
        """Go on in another session; None begins one with the next message."""
        self.session = session
        self._said = self._turn = ""

    async def ask(self, text: str, person: Person | None) -> answer.Body:
        """Send a message and show its turn; answer its last event, or what it waits for when nobody can be
        asked.

        Ctrl-C stops the turn, and keeps what was said. Raises CallFailed.
        """
        if self.session is None:
            self.session = await self._conversation.create_session(ids.uuid())
        return await self._follow(self._question(self.session, text=text), person)

    async def edit(self, text: str, person: Person | None) -> answer.Body:
        """Say the last message differently and show its turn. Raises CallFailed and NothingSaid."""
        question = self._question(*self._last(self._said), text=text)
        return await self._follow(question, person)

    async def retry(self, person: Person | None) -> answer.Body:
        """Show another answer to the last message. Raises CallFailed and NothingSaid."""
        session, turn = self._last(self._turn)
        return await self._follow(
            answer.Again(id=ids.uuid(), session=session, turn=turn, model=self.model), person
        )

    async def stop(self) -> None:
        """Stop the last turn. Raises CallFailed and NothingSaid."""
        session, turn = self._last(self._turn)
        await self._conversation.cancel(session, turn, ids.uuid())

    async def clear(self) -> None:
        """Empty the session. Raises CallFailed and NothingSaid."""
        if self.session is None:
            raise NothingSaid
        await self._conversation.clear(self.session, ids.uuid())
        self.go_on(self.session)

    def _question(self, session: str, instead_of: str = "", *, text: str) -> answer.Question:
        return answer.Question(
            id=ids.uuid(), session=session, text=text, model=self.model, instead_of=instead_of
        )

    def _last(self, id: str) -> tuple[str, str]:
        if self.session is None or not id:
            raise NothingSaid
        return self.session, id

    async def _follow(self, question: answer.Question | answer.Again, person: Person | None) -> answer.Body:
        if self._open is not None and replace(question, id=self._open.id) == self._open:
            question = self._open  # said once more after a failure: its turn is joined if it arrived
        self._open = question
        turn = _Turn(self._conversation, question.session, self._tasks)
        said = question.id if isinstance(question, answer.Question) else self._said
        try:
            with_events = follow(self._conversation, question, self._clock, documented=self._documented)
            async with turn.interruptible(), aclosing(with_events) as events:  # type: ignore[type-var]
                last = await self._show(events, turn, said, person)
            self._open = None
            return last
        except CallFailed as failed:
            if not failed.passing:
                self._open = None  # it was refused, so it did not arrive
            raise
        finally:
            self.turn = turn.id or self.turn
            self._view.end()

    async def _show(
        self, events: AsyncIterator[answer.Event], turn: "_Turn", said: str, person: Person | None
    ) -> answer.Body:
        async for event in events:
            turn.runs(event.turn)
            self._turn, self._said = event.turn, said
            self._view.show(event)
            match event.body:
                case answer.ApprovalAsked() | answer.Asked() as asked:
                    if person is None:
                        return asked
                    self._view.end()
                    await turn.answer(asked, person)
                case answer.Finished() | answer.Failed() | answer.Cancelled() as last:
                    return last
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

    async def answer(self, asked: answer.ApprovalAsked | answer.Asked, person: Person) -> None:
        """Let the person answer what the turn waits for. Raises CallFailed."""
        place = (self._session, self.id, ids.uuid())
        match asked:
            case answer.ApprovalAsked():
                await self._conversation.approve(*place, asked, await person.decide(asked))
            case answer.Asked():
                await self._conversation.reply(*place, asked, await person.fill(asked))

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
