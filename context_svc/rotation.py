"""Keys go out of use by themselves: a new one every 90 days, known everywhere before it signs, and the old one
counts for a day after.

Key, file for Envoy, feed and audit log change in this order, so that nobody signs with a key that is not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import Database, Unit
from chassis.errors import StoreUnavailable
from chassis.keys import KeyRefused
from context_svc.audit import Entry, Event, append
from context_svc.revocations import Feed
from context_svc.signing import Renewal, UserKeys

log = telemetry.logger(__name__)

SHORTEST, LONGEST = 1.0, 6 * 3600.0  # seconds between two looks


class Rotation:
    """Looks at the keys when one is due, and every few hours: what another process made is taken up too."""

    def __init__(
        self, *, database: Database, clock: Clock, keys: UserKeys, feed: Feed, key_set: Path
    ) -> None:
        self._database = database
        self._clock = clock
        self._keys = keys
        self._feed = feed
        self._key_set = key_set

    async def run(self) -> NoReturn:
        """Rotate until cancelled."""
        while True:
            left = (self._keys.due_us() - self._clock.now_us()) / 1e6
            await self._clock.sleep(min(max(left, SHORTEST), LONGEST))
            try:
                await self.rotate()
            except (KeyRefused, OSError) as error:
                log.error("the signing keys could not be renewed", error=error)

    async def rotate(self, *, now: bool = False) -> Renewal:
        """Change what is due; with `now` replace every key at once, and trust the old ones no longer.

        Raises chassis.keys.KeyRefused, and OSError when the folder cannot be written.
        """
        renewal = self._keys.renew(now=now)
        if renewal.changed or renewal.retired:
            self._keys.publish(self._key_set)
            self._feed.rekeyed(self._keys.announced, renewal)
            await self._note(renewal)
        return renewal

    async def _note(self, renewal: Renewal) -> None:
        now_us = self._clock.now_us()
        made = [key.key_id for key in renewal.changed if key.end_us is None]
        entries = [
            *(Entry(event=Event.KEY_CREATED, at_us=now_us, subject=key_id) for key_id in made),
            *(Entry(event=Event.KEY_RETIRED, at_us=now_us, subject=key_id) for key_id in renewal.retired),
        ]
        log.info("the signing keys changed", made=len(made), retired=len(renewal.retired))
        try:
            await self._database.write("audit", lambda: _all(entries))
        except StoreUnavailable as error:
            log.error("a change of keys was not noted", error=error)


def _all(entries: list[Entry]) -> Unit[None]:
    for entry in entries:
        yield from append(entry)
