"""Content goes: what a session holds up to a sequence, and what was made of it, leaving a tombstone in its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.database import Statement, Unit
from context_svc import commands
from context_svc import session_rows as rows
from context_svc.claims import claim_of
from context_svc.errors import SessionNotFound
from context_svc.journal import Draft, Entry, Journal, Kind
from context_svc.session_rows import Session, TitleSource
from context_svc.turn_rows import TurnState, open_rows
from context_svc.waiting import CANCELLED, WaitCodec, Waiting


class TombstoneCodec(Protocol):
    """Writes what stands for removed content."""

    def messages_cleared(self, through: int) -> bytes:
        """A serialised MessagesCleared."""

    def session_changed(self, session: Session, changed: Sequence[str], sequence: int) -> bytes:
        """A serialised SessionChanged; `sequence` is that of its event."""


class ClearCodec(TombstoneCodec, WaitCodec, Protocol):
    """Writes what clearing a session puts into its log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleared:
    """A session was emptied through this sequence; `running` are the turns that were cut off."""

    through: int
    entries: tuple[Entry, ...] = ()
    running: tuple[str, ...] = ()


class Clearing:
    """The unit that empties a session."""

    def __init__(self, journal: Journal, codec: ClearCodec) -> None:
        self._journal = journal
        self._codec = codec
        self._waiting = Waiting(journal, codec)

    def clear(self, account: str, session_id: str, request_id: str, now_us: int) -> Unit[Cleared]:
        """End every turn of a session, then remove everything in it. Ids that were used stay used.

        A turn that runs loses its claim: its owner can write nothing more. Raises SessionNotFound and
        IdempotencyKeyReused.
        """
        session = yield from rows.lock(session_id, account)
        if session is None:
            raise SessionNotFound
        shape = commands.shape("ClearMessages", session_id)
        before = yield from commands.answered(account, request_id, shape, now_us)
        if before is not None:
            return Cleared(through=int(before))
        ended: list[Entry] = []
        running = []
        for turn in (yield from open_rows(session_id)):
            if turn["state"] == TurnState.RUNNING:
                running.append(turn["id"])
            ended += yield from self._waiting.end(claim_of(turn), CANCELLED, "", now_us)
        through = ended[-1].sequence if ended else session.last_sequence
        yield from remove(session_id, through)
        left = yield from relabel(session, through)
        drafts = tombstone(self._codec, left, session, through)
        entries = yield from self._journal.append(session_id, drafts, now_us)
        yield from commands.keep(account, request_id, shape, str(through), now_us)
        return Cleared(through=through, entries=(*ended, *entries), running=tuple(running))


def remove(session_id: str, through: int) -> Unit[None]:
    """Part of a unit: delete events and messages up to a sequence, and turns of which nothing is left."""
    for table in ("event", "message"):
        yield Statement(
            f"DELETE FROM {table} WHERE session_id = :session AND sequence <= :through",  # noqa: S608 - our names
            {"session": session_id, "through": through},
        )
    yield Statement(
        "DELETE FROM turn WHERE session_id = :session AND state >= 5 AND accepted_sequence <= :through"
        " AND NOT EXISTS (SELECT 1 FROM event e WHERE e.session_id = turn.session_id AND e.turn_id = turn.id)",
        {"session": session_id, "through": through},
    )


def relabel(session: Session, through: int) -> Unit[Session]:
    """Take back what was made of removed messages: a suggested title, the preview, the end of the branch."""
    suggested = session.title_source is TitleSource.MODEL
    changed = yield Statement(
        "UPDATE session SET first_sequence = CASE WHEN first_sequence > :first THEN first_sequence ELSE :first END,"
        " title = :title, title_source = :source,"
        " preview = CASE WHEN EXISTS (SELECT 1 FROM message m WHERE m.session_id = session.id"
        " AND m.id = session.head_message_id) THEN preview ELSE '' END,"
        " head_message_id = (SELECT m.id FROM message m WHERE m.session_id = session.id"
        " AND m.id = session.head_message_id) WHERE id = :id RETURNING *",
        {
            "first": through + 1,
            "title": "" if suggested else session.title,
            "source": int(TitleSource.UNSPECIFIED if suggested else session.title_source),
            "id": session.id,
        },
    )
    return rows.from_row(changed[0])


def tombstone(codec: TombstoneCodec, left: Session, before: Session, through: int) -> list[Draft]:
    """What the log tells of a removal."""
    cleared = codec.messages_cleared(through)
    drafts = [Draft(kind=Kind.MESSAGES_CLEARED, turn_id="", payload=lambda _sequence, _time: cleared)]
    if left.title != before.title:
        drafts.append(
            Draft(
                kind=Kind.SESSION_CHANGED,
                turn_id="",
                payload=lambda sequence, _time: codec.session_changed(left, ("title",), sequence),
            )
        )
    return drafts
