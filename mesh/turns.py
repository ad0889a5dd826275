"""One turn from its question to its last event, over however many streams that takes."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from chassis.clock import Clock
from mesh import answer
from mesh.errors import CallFailed

_EXPIRED = "TOKEN_EXPIRED"


class Sends(Protocol):
    """The door a question goes through."""

    def send(
        self, question: answer.Question | answer.Again, *, documented: bool
    ) -> AsyncIterator[answer.Event]:
        """Send the question, or join its turn, and follow it. Ends early when cut. Raises CallFailed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How a cut stream is taken up again. Seconds."""

    first: float = 0.2
    cap: float = 3.0
    patience: float = 60.0  # without any event


async def follow(
    door: Sends,
    question: answer.Question | answer.Again,
    clock: Clock,
    *,
    retry: Retry | None = None,
    documented: bool = False,
) -> AsyncIterator[answer.Event]:
    """Answer each event of the question's turn once and in order, up to its last one.

    A stream that is cut is opened again with the same id, which joins the same turn. Raises CallFailed
    when the mesh refuses, or when nothing was heard for the whole patience.
    """
    retry = retry or Retry()
    seen, delay, heard = 0, retry.first, clock.monotonic()
    while True:
        failure: CallFailed | None = None
        try:
            async with aclosing(door.send(question, documented=documented)) as events:  # type: ignore[type-var]
                async for event in events:
                    if event.sequence <= seen:
                        continue
                    seen, delay, heard = event.sequence, retry.first, clock.monotonic()
                    yield event
                    if isinstance(event.body, answer.Last):
                        return
        except CallFailed as failed:
            if not failed.passing and failed.reason != _EXPIRED:
                raise
            failure = failed
        if clock.monotonic() - heard > retry.patience:
            raise failure or CallFailed("The answer broke off.", "Ask again.", reason=None, passing=True)
        await clock.sleep(delay)
        delay = min(retry.cap, delay * 2)
