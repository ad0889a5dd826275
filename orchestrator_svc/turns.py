"""The turns that run here: each one from its order to its last frame."""

from __future__ import annotations

from collections.abc import AsyncIterator

from chassis.clock import Clock
from chassis.errors import ServiceError
from chassis.tasks import Tasks
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.errors import FrameUnexpected
from orchestrator_svc.generation import Models
from orchestrator_svc.material import Order
from orchestrator_svc.outbox import Frame, Outbox
from orchestrator_svc.runner import Command, Run
from orchestrator_svc.selection import Limits
from orchestrator_svc.turn import Turn


class Turns:
    """Runs turns, any number at once; keeps nothing of them."""

    def __init__(
        self, *, models: Models, catalogue: Catalogue, clock: Clock, limits: Limits | None = None
    ) -> None:
        self._models = models
        self._catalogue = catalogue
        self._limits = limits or Limits()
        self._clock = clock

    async def run(self, frames: AsyncIterator[Order | Command]) -> AsyncIterator[tuple[str, Frame]]:
        """Frames of a turn with its id, until its end. Closing this stops everything that the turn started.

        Raises FrameUnexpected when the first frame is no order, or a later one is.
        """
        order = await anext(frames, None)
        if not isinstance(order, Order):
            raise FrameUnexpected("the first frame is not `start`")
        outbox = Outbox()
        async with Tasks() as tasks:
            running = tasks.spawn("turn", self._perform(order, _commands(frames), outbox))
            while (frame := await outbox.take()) is not None:
                yield order.turn_id, frame
            await running

    async def _perform(self, order: Order, commands: AsyncIterator[Command], outbox: Outbox) -> None:
        catalogue = self._catalogue.now()
        run = Run(
            Turn(order, catalogue.offers(), self._limits),
            order,
            models=self._models,
            catalogue=catalogue,
            clock=self._clock,
            outbox=outbox,
        )
        try:
            await run.perform(commands)
        except* ServiceError as refused:
            raise _first(refused) from refused


def _first(group: BaseExceptionGroup[ServiceError]) -> ServiceError:
    """The refusal itself, out of the group that a TaskGroup makes of it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ServiceError)
    return error


async def _commands(frames: AsyncIterator[Order | Command]) -> AsyncIterator[Command]:
    async for frame in frames:
        if isinstance(frame, Order):
            raise FrameUnexpected("`start` came twice")
        yield frame
