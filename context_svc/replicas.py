"""Other processes of the same store: what they wrote is looked for when they hint at it."""

from __future__ import annotations

from collections.abc import Callable

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import StoreUnavailable
from context_svc.meta import Mesh, log_epoch
from context_svc.readers import Readers
from context_svc.revocations import Feed
from context_svc.schedule import Schedule

log = telemetry.logger(__name__)

BREATH = 0.02  # seconds between two looks: hints that come meanwhile are one


async def follow_others(
    database: Database,
    readers: Readers,
    schedule: Schedule,
    feed: Feed,
    clock: Clock,
    restored: Callable[[str], None],
) -> None:
    """Let readers, turns and the revocation feed take up what other processes did. Returns where there are none.

    `restored` is told the epoch of the log each time: another process may have put a backup in place.
    """
    async for touched in database.hints():
        try:
            restored(await database.read(log_epoch))
            await schedule.look_again(touched)
            await readers.look_again(touched)
            await feed.catch_up(database)
        except StoreUnavailable as error:
            log.warning("the store did not answer", error=error)
        await clock.sleep(BREATH)


def restarts(mesh: Mesh, restart: Callable[[], None]) -> Callable[[str], None]:
    """Begin anew once the log has another epoch than this process began with."""

    def check(epoch: str) -> None:
        if epoch != mesh.log_epoch:
            restart()

    return check
