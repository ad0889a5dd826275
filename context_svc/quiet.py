"""A journal and turns for a room without a conversation: nothing is logged, no turn is ever open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chassis.database import Unit
from context_svc.session_rows import Session
from context_svc.sessions import OpenTurn, Then


class QuietJournal:
    """See `context_svc.sessions.Journal`."""

    def session_changed(self, session: Session, changed: tuple[str, ...]) -> Unit[Then]:
        """Append nothing."""
        yield from ()
        return _nothing


class NoTurns:
    """See `context_svc.sessions.Turns`."""

    def open_turns(self, sessions: Sequence[str]) -> Unit[Mapping[str, Sequence[OpenTurn]]]:
        """None."""
        yield from ()
        return {}

    def cancel_all(self, session: str) -> Unit[Then]:
        """There is nothing to cancel."""
        yield from ()
        return _nothing


def _nothing() -> None:
    """Nothing became durable that anybody waits for."""
