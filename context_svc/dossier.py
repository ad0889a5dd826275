"""All that is known of people, put together: context items and who watches them, for the rest of the room."""

from __future__ import annotations

from dataclasses import dataclass

from chassis import telemetry
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import StoreUnavailable
from context_svc.context_feed import ContextFeed
from context_svc.context_items import ContextItems, ContextLog
from context_svc.context_watch import Watchers
from context_svc.paging import PageTokens
from context_svc.preferences import Catalogue, Preferences
from context_svc.servicer.context import ContextServicer
from context_svc.suggestions import Suggestions
from context_svc.wire.items import ItemAnswers
from context_svc.wire.preferences import PreferenceWords
from context_svc.wire.suggestions import SuggestionWords

logger = telemetry.logger(__name__)

EXPIRY_ROUND = 5.0  # seconds
FORGET_ROUNDS = 720


@dataclass(frozen=True, kw_only=True, slots=True)
class Dossier:
    """What the room holds of what it knows of people."""

    clock: Clock
    items: ContextItems
    preferences: Preferences
    servicer: ContextServicer

    async def expire(self) -> None:
        """Bury what has expired, every few seconds; what a day has outdated, every hour. Never ends."""
        rounds = 0
        while True:
            try:
                await self.items.expire()
                if rounds % FORGET_ROUNDS == 0:
                    await self.items.forget()
            except StoreUnavailable as error:
                logger.warning("context could not be swept", error=error)
            rounds += 1
            await self.clock.sleep(EXPIRY_ROUND)


def open_dossier(
    database: Database,
    clock: Clock,
    pages: PageTokens,
    log_epoch: str,
    *,
    log: ContextLog,
    watchers: Watchers,
    catalogue: Catalogue,
) -> Dossier:
    """Compose it."""
    items = ContextItems(
        database=database, clock=clock, log=log, bell=watchers, answers=ItemAnswers(log_epoch)
    )
    feed = ContextFeed(database, clock, watchers, log_epoch)
    preferences = Preferences(database, clock, PreferenceWords(), items.keep_locations, catalogue)
    suggestions = Suggestions(database, clock, pages, preferences.accept, SuggestionWords())
    servicer = ContextServicer(items, feed, preferences, suggestions, log_epoch)
    return Dossier(clock=clock, items=items, preferences=preferences, servicer=servicer)
