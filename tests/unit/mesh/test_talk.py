"""One conversation at the terminal, when what it sends may not have arrived."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from chassis.tasks import Tasks
from mesh import answer
from mesh.errors import CallFailed
from mesh.talk import Talk, Wish
from tests.unit.mesh.test_turns import DOWN, Ticking

REFUSED = CallFailed("too long", "", reason="INVALID_FIELD", passing=False)


@dataclass
class Door:
    """Fails with `failure` as long as there is one."""

    failure: CallFailed | None = None
    asked: list[answer.Question | answer.Again] = field(default_factory=list)

    async def create_session(self, session_id: str) -> str:
        return "s"

    async def send(
        self, question: answer.Question | answer.Again, *, documented: bool
    ) -> AsyncIterator[answer.Event]:
        if question not in self.asked:
            self.asked.append(question)
        if self.failure is not None:
            raise self.failure
        yield answer.Event(sequence=1, turn=question.id, body=answer.Finished(text="", model=""))


class Dark:
    def show(self, event: answer.Event) -> None: ...

    def end(self) -> None: ...


@pytest.mark.requirement("SAFE-7")
@pytest.mark.requirement("CHAT-2")
async def test_what_is_said_once_more_after_a_lost_connection_is_the_same_message() -> None:
    door = Door(DOWN)
    async with Tasks() as tasks:
        talk = Talk(door, Dark(), Wish(), Ticking(), tasks)  # type: ignore[arg-type]
        with pytest.raises(CallFailed):
            await talk.ask("hi", None)
        door.failure = None
        await talk.ask("hi", None)
        assert len(door.asked) == 1
        await talk.ask("hi", None)
        assert len(door.asked) == 2, "an answered message is not said again"
        door.failure = DOWN
        with pytest.raises(CallFailed):
            await talk.retry(None)
        door.failure = None
        await talk.retry(None)
        assert len(door.asked) == 3


@pytest.mark.requirement("SAFE-7")
async def test_what_was_refused_or_is_said_otherwise_is_another_message() -> None:
    door = Door(REFUSED)
    async with Tasks() as tasks:
        talk = Talk(door, Dark(), Wish(), Ticking(), tasks)  # type: ignore[arg-type]
        for failure, text in ((REFUSED, "hi"), (DOWN, "hi"), (DOWN, "hello")):
            door.failure = failure
            with pytest.raises(CallFailed):
                await talk.ask(text, None)
    assert len(door.asked) == len({question.id for question in door.asked}) == 3
