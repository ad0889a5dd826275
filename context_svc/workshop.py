"""What the agent does in this room, put together: its actions, what actions leave behind, reminders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from chassis.clock import Clock
from chassis.database import Database
from context_svc.actions.noting import GetContext, SetContext
from context_svc.actions.remembering import Recall, Remember
from context_svc.actions.reminding import CancelReminder, ListReminders, SetReminder
from context_svc.actions.searching import SearchMessages
from context_svc.background_actions import BackgroundActions
from context_svc.books import Books
from context_svc.claims import Claims
from context_svc.executions import Executions
from context_svc.hosting import Hosting
from context_svc.jobs import Cancelled, Kind
from context_svc.journal import Journal, Publish
from context_svc.leavings import Leavings, Put
from context_svc.paging import PageTokens
from context_svc.reminders import Alarm, Reminders
from context_svc.servicer.reminder import ReminderServicer
from context_svc.turns import Turns
from context_svc.wire.chat import ChatCodec, said
from context_svc.wire.known import time_zone
from context_svc.wire.preferences import memory_enabled
from context_svc.wire.session import stays_here


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """The kinds of jobs of the agent's work, and who serves reminders."""

    kinds: Sequence[Kind]
    cancelled: Mapping[str, Cancelled]
    servicer: ReminderServicer


def open_hosting(
    database: Database,
    clock: Clock,
    *,
    claims: Claims,
    codec: ChatCodec,
    publish: Publish,
    books: Books,
    put: Put,
) -> Hosting:
    """Compose what turns ask of this room."""
    actions = (
        Remember(put, memory_enabled, stays_here),
        Recall(database, clock, memory_enabled),
        SetReminder(clock),
        ListReminders(stays_here),
        CancelReminder(stays_here),
        SearchMessages(database, books.search, said, stays_here),
        GetContext(),
        SetContext(put),
    )
    return Hosting(
        database=database,
        claims=claims,
        codec=codec,
        publish=publish,
        clock=clock,
        actions=actions,
        leavings=Leavings(put=put),
        zone_of=lambda material: time_zone(material.known.items),
    )


def open_workshop(
    database: Database,
    clock: Clock,
    pages: PageTokens,
    *,
    journal: Journal,
    codec: ChatCodec,
    turns: Turns,
    publish: Publish,
    wake: Callable[[str, str], None],
    stop: Callable[[str, str], None],
) -> Workshop:
    """Compose the work that outlives turns."""
    alarm = Alarm(journal, codec, publish)
    left_behind = BackgroundActions(
        database=database,
        journal=journal,
        codec=codec,
        executions=Executions(journal, turns, codec),
        turns=turns,
        publish=publish,
        wake=wake,
        stop=stop,
    )
    return Workshop(
        kinds=(alarm, left_behind),
        cancelled=MappingProxyType({alarm.name: alarm.cancelled, left_behind.name: left_behind.cancelled}),
        servicer=ReminderServicer(Reminders(database, clock, pages, time_zone)),
    )
