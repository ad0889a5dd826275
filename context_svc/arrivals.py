"""The rows of an archive, added to an account: parts of units. What is there already stays as it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from chassis import ids
from chassis.database import Statement, Unit
from context_svc import item_rows, reminder_rows, session_rows, suggestions
from context_svc.errors import QuotaExceeded
from context_svc.items import MOST_BYTES, MOST_ITEMS, Filling, Item, Scope
from context_svc.journal import Kind
from context_svc.reminder_rows import Reminder, ReminderState
from context_svc.search import Indexing
from context_svc.sessions import QUOTA
from context_svc.suggestions import Suggestion
from context_svc.turn_rows import TurnState
from context_svc.unpacking import (
    ArrivingDevice,
    ArrivingEvent,
    ArrivingMessage,
    ArrivingTurn,
    Bundle,
    Layer,
    Opening,
)

SHAPE = "imported"
_OVER = {
    Kind.TURN_FINISHED: TurnState.FINISHED,
    Kind.TURN_FAILED: TurnState.FAILED,
    Kind.TURN_CANCELLED: TurnState.CANCELLED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """What is called otherwise here: the log's epoch, files, and with `session_id` also a session and its turns."""

    account: str
    log_epoch: str
    media: Mapping[str, str]
    session_id: str = ""

    def turn(self, turn_id: str) -> str:
        """A turn's id here."""
        return derived(self.account, turn_id) if self.session_id and turn_id else turn_id


class Renaming(Protocol):
    """Puts other ids into stored messages and events."""

    def renamed_message(self, data: bytes, names: Names) -> bytes:
        """A serialised Message."""

    def renamed_event(self, data: bytes, names: Names) -> bytes:
        """A serialised ChatEvent."""

    def failed_event(self, session_id: str, turn_id: str, sequence: int, time_us: int) -> bytes:
        """A serialised ChatEvent: a turn that nobody goes on with has failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Turn:
    id: str
    opening: Opening
    answer_id: str
    accepted: int
    create_us: int
    start_us: int | None
    end_us: int | None
    state: TurnState | None
    reason: str
    receipt: bytes


def derived(account: str, id: str) -> str:
    """The id here of something whose own id belongs to somebody else; the same at every import."""
    return str(UUID(bytes=hashlib.sha256(f"{account}\n{id}".encode()).digest()[:16], version=5))


def check_room(account: str, session_ids: Sequence[str]) -> Unit[None]:
    """Raises QuotaExceeded when so many sessions more are too many."""
    here = yield Statement(
        "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM session WHERE account_id = :account", {"account": account}
    )
    fresh = 0
    for session_id in session_ids:
        known = yield from _place(account, session_id)
        fresh += known is not None
    if here[0]["n"] + fresh > QUOTA:
        raise QuotaExceeded(quota="sessions")


def add_devices(account: str, devices: Sequence[ArrivingDevice]) -> Unit[int]:
    """Add devices with their names; none is signed in. How many were added."""
    added = 0
    for device in devices:
        rows = yield Statement(
            "INSERT INTO device (account_id, id, name, named_by_person, platform, app_version, version,"
            " create_us, last_use_us) VALUES (:account, :id, :name, 1, :platform, :app, 1, :created, :used)"
            " ON CONFLICT (account_id, id) DO NOTHING RETURNING id",
            {
                "account": account,
                "id": device.id,
                "name": device.name,
                "platform": device.platform,
                "app": device.app_version,
                "created": device.create_us,
                "used": device.last_use_us,
            },
        )
        added += len(rows)
    return added


def add_layers(account: str, own: Layer | None, accepted: Layer | None, now_us: int) -> Unit[bool]:
    """Add preferences, if the person has none here."""
    rows = yield Statement(
        "INSERT INTO preference (account_id, version, own, accepted, location_keep_us, update_us)"
        " VALUES (:account, 1, :own, :accepted, :keep, :now) ON CONFLICT (account_id) DO NOTHING"
        " RETURNING account_id",
        {
            "account": account,
            "own": own.data if own else b"",
            "accepted": accepted.data if accepted else b"",
            "keep": own.location_keep_us if own else None,
            "now": now_us,
        },
    )
    return bool(rows)


def add_suggestions(account: str, proposals: Sequence[Suggestion]) -> Unit[int]:
    """Add what was proposed, so that what was dismissed does not return; how many were added."""
    added = 0
    for each in proposals:
        added += yield from suggestions.keep(account, each)
    return added


def add_reminders(account: str, arriving: Sequence[Reminder], now_us: int) -> Unit[int]:
    """Schedule those that have not fired, each once however often it arrives; how many. Raises QuotaExceeded."""
    added = 0
    for each in arriving:
        here = yield from reminder_rows.find(each.id)
        mine = here is not None and here.account_id == account
        if each.state is ReminderState.SCHEDULED and not mine:
            new = replace(each, id=ids.uuid(), account_id=account, create_us=now_us)
            stored = yield from reminder_rows.add(new, f"import.{each.id}"[:64], "")
            added += stored.id == new.id
    return added


def add_items(scope: Scope, items: Sequence[Item], now_us: int) -> Unit[int]:
    """Add context items whose keys are free; how many. Raises QuotaExceeded."""
    if not items:
        return 0
    row = yield from item_rows.lock(scope)
    rows = yield Statement(
        "SELECT key FROM context_item WHERE scope_id = :scope AND state = 0", {"scope": scope.id}
    )
    taken = {each["key"] for each in rows}
    fresh = [
        each
        for each in items
        if each.key not in taken and (each.expire_us is None or each.expire_us > now_us)
    ]
    if row.version:
        fresh = [replace(each, version=row.version + 1) for each in fresh]
    filling = Filling(
        items=row.filling.items + len(fresh), bytes=row.filling.bytes + sum(each.size for each in fresh)
    )
    if filling.items > MOST_ITEMS or filling.bytes > MOST_BYTES:
        raise QuotaExceeded(quota="context of a scope")
    yield from item_rows.store(scope.id, fresh)
    version = max([row.version, *(each.version for each in fresh)])
    yield from item_rows.update(scope.id, version, filling)
    return len(fresh)


def add_session(
    account: str, bundle: Bundle, names: Names, codec: Renaming, indexing: Indexing, now_us: int
) -> Unit[Counter[str] | None]:
    """Add a session with everything in it; None when it is there already. What was added, by kind."""
    session_id = yield from _place(account, bundle.session.id)
    if session_id is None:
        return None
    if session_id != bundle.session.id:
        names = replace(names, session_id=session_id)
    if not (yield from session_rows.count_one_more(account, QUOTA)):
        raise QuotaExceeded(quota="sessions")
    turns, events = _turns(account, bundle), list(bundle.events)
    last = max(bundle.session.last_sequence, 0)
    yield from _insert_session(account, session_id, bundle, last)
    for message_id, data in (yield from _insert_messages(session_id, bundle.messages, turns, names, codec)):
        yield from indexing.store(session_id, message_id, data)
    yield from _insert_events(session_id, events, names, codec)
    parents = {each.id: each.parent_id for each in bundle.messages}
    for turn in turns:
        ended = turn
        if turn.state is None:
            last += 1
            data = codec.failed_event(session_id, names.turn(turn.id), last, now_us)
            yield from _insert_event(session_id, last, names.turn(turn.id), Kind.TURN_FAILED, now_us, data)
            ended = replace(turn, state=TurnState.FAILED, end_us=now_us, reason="OWNER_LOST")
        yield from _insert_turn(account, session_id, ended, names, parents)
    yield Statement(
        "UPDATE session SET last_sequence = :last WHERE id = :id", {"last": last, "id": session_id}
    )
    scope = Scope(account_id=account, session_id=session_id)
    items = [replace(each, session_id=session_id, turn_id=names.turn(each.turn_id)) for each in bundle.items]
    added = yield from add_items(scope, items, now_us)
    return Counter(
        sessions=1,
        messages=len(bundle.messages),
        events=len(events),
        turns=len(bundle.turns),
        context_items=added,
    )


def counts(bundle: Bundle) -> Counter[str]:
    """How many records of each kind a session has."""
    return Counter(
        sessions=1,
        messages=len(bundle.messages),
        events=len(bundle.events),
        turns=len(bundle.turns),
        context_items=len(bundle.items),
    )


def _place(account: str, session_id: str) -> Unit[str | None]:
    """The id under which a session can be added; None when the account has it."""
    for candidate in (session_id, derived(account, session_id)):
        rows = yield Statement("SELECT account_id FROM session WHERE id = :id", {"id": candidate})
        if not rows:
            return candidate
        if rows[0]["account_id"] == account:
            return None
    return None


def _turns(account: str, bundle: Bundle) -> list[_Turn]:
    """The turns as their events tell them."""
    found: dict[str, _Turn] = {}
    for event in bundle.events:
        if event.opens is not None:
            told = bundle.turns.get(event.turn_id)
            found[event.turn_id] = _opened(account, event, event.opens, told)
        turn = found.get(event.turn_id)
        if turn is None:
            continue
        if event.kind == Kind.TURN_STARTED:
            answer_id = event.answer_id or turn.answer_id
            found[event.turn_id] = replace(turn, answer_id=answer_id, start_us=event.create_us)
        elif event.kind in _OVER:
            found[event.turn_id] = replace(
                turn, state=_OVER[Kind(event.kind)], end_us=event.create_us, reason=event.reason
            )
    return list(found.values())


def _opened(account: str, event: ArrivingEvent, opening: Opening, told: ArrivingTurn | None) -> _Turn:
    return _Turn(
        id=event.turn_id,
        opening=opening,
        answer_id=derived(account, f"answer of {event.turn_id}"),
        accepted=event.sequence,
        create_us=event.create_us,
        start_us=None,
        end_us=None,
        state=None,
        reason="",
        receipt=told.receipt if told else b"",
    )


def _insert_session(account: str, session_id: str, bundle: Bundle, last: int) -> Unit[None]:
    session = bundle.session
    yield Statement(
        "INSERT INTO session (id, account_id, title, title_source, state, settings, private, version,"
        " last_sequence, first_sequence, head_message_id, preview, create_us, update_us, end_us, device_id, shape)"
        " VALUES (:id, :account, :title, :source, :state, :settings, :private, :version, :last, :first, :head,"
        " :preview, :created, :updated, :ended, :device, :shape)",
        {
            "id": session_id,
            "account": account,
            "title": session.title,
            "source": int(session.title_source),
            "state": int(session.state),
            "settings": session.settings,
            "private": int(session.private),
            "version": session.version,
            "last": last,
            "first": bundle.events[0].sequence if bundle.events else last + 1,
            "head": bundle.messages[-1].id if bundle.messages else None,
            "preview": session.preview,
            "created": session.create_us,
            "updated": session.update_us,
            "ended": session.end_us,
            "device": session.device_id,
            "shape": SHAPE,
        },
    )


def _insert_messages(
    session_id: str,
    messages: Sequence[ArrivingMessage],
    turns: Sequence[_Turn],
    names: Names,
    codec: Renaming,
) -> Unit[list[tuple[str, bytes]]]:
    """Add messages: the id and the stored form of each."""
    added = []
    answered = {turn.answer_id: turn.opening.message_id for turn in turns}
    depths: dict[str, int] = {}
    for message in messages:
        depths[message.id] = _depth(message.parent_id, depths, answered)
        renamed = names.session_id or any(names.media.get(each, each) != each for each in message.media)
        data = codec.renamed_message(message.data, names) if renamed else message.data
        added.append((message.id, data))
        yield Statement(
            "INSERT INTO message (session_id, id, turn_id, parent_id, depth, role, sequence, create_us, data)"
            " VALUES (:session, :id, :turn, :parent, :depth, :role, :sequence, :created, :data)"
            " ON CONFLICT DO NOTHING",
            {
                "session": session_id,
                "id": message.id,
                "turn": names.turn(message.turn_id),
                "parent": message.parent_id,
                "depth": depths[message.id],
                "role": message.role,
                "sequence": message.sequence,
                "created": message.create_us,
                "data": data,
            },
        )
    return added


def _depth(parent_id: str, depths: Mapping[str, int], answered: Mapping[str, str]) -> int:
    """How deep a message stands: below its parent, or below the answer that its parent's turn will have."""
    if parent_id in depths:
        return depths[parent_id] + 1
    asked = answered.get(parent_id, "")
    return depths[asked] + 2 if asked in depths else 0


def _insert_events(
    session_id: str, events: Sequence[ArrivingEvent], names: Names, codec: Renaming
) -> Unit[None]:
    for event in events:
        yield from _insert_event(
            session_id,
            event.sequence,
            names.turn(event.turn_id),
            event.kind,
            event.create_us,
            codec.renamed_event(event.data, names),
        )


def _insert_event(
    session_id: str, sequence: int, turn_id: str, kind: int, create_us: int, data: bytes
) -> Unit[None]:
    yield Statement(
        "INSERT INTO event (session_id, sequence, turn_id, kind, create_us, data)"
        " VALUES (:session, :sequence, :turn, :kind, :created, :data)",
        {
            "session": session_id,
            "sequence": sequence,
            "turn": turn_id,
            "kind": int(kind),
            "created": create_us,
            "data": data,
        },
    )


def _insert_turn(
    account: str, session_id: str, turn: _Turn, names: Names, parents: Mapping[str, str]
) -> Unit[None]:
    """Add a turn. `parents`: below which message each message of its session stands."""
    yield Statement(
        "INSERT INTO turn (id, session_id, account_id, state, attempt, message_id, parent_id, answer_id, options,"
        " action, alternative, accepted_sequence, reason, receipt, create_us, start_us, end_us) VALUES (:id,"
        " :session, :account, :state, :attempt, :message, :parent, :answer, :options, :action, :alternative,"
        " :accepted, :reason, :receipt, :created, :started, :ended) ON CONFLICT (id) DO NOTHING",
        {
            "id": names.turn(turn.id),
            "session": session_id,
            "account": account,
            "state": int(turn.state or TurnState.FAILED),
            "attempt": 0 if turn.start_us is None else 1,
            "message": turn.opening.message_id,
            "parent": "" if turn.opening.message_id else parents.get(turn.answer_id, ""),
            "answer": turn.answer_id,
            "options": turn.opening.options,
            "action": turn.opening.action,
            "alternative": int(turn.opening.alternative),
            "accepted": turn.accepted,
            "reason": turn.reason,
            "receipt": turn.receipt,
            "created": turn.create_us,
            "started": turn.start_us,
            "ended": turn.end_us,
        },
    )
