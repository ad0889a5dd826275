"""What sessions need of their log and their turns, when they change, end, or are listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from chassis.clock import Clock
from chassis.database import Statement, Unit, Value
from context_svc.journal import Draft, Journal, Kind, Publish
from context_svc.session_rows import Session
from context_svc.sessions import Then
from context_svc.turn_rows import OpenTurn, open_turn
from context_svc.turns import Turns


class SessionCodec(Protocol):
    """Writes what a session's own changes put into its log."""

    def session_changed(self, session: Session, changed: Sequence[str], sequence: int) -> bytes:
        """A serialised SessionChanged; `sequence` is that of its event."""

    def context_changed(self, version: int, keys: Sequence[str]) -> bytes:
        """A serialised ContextChanged of the session's scope."""


class SessionLog:
    """The journal and the turns as `context_svc.sessions` asks for them."""

    def __init__(
        self,
        *,
        journal: Journal,
        turns: Turns,
        codec: SessionCodec,
        publish: Publish,
        stop: Callable[[str, str], None],
        close: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._turns = turns
        self._codec = codec
        self._publish = publish
        self._stop = stop
        self._close = close
        self._clock = clock

    def session_changed(self, session: Session, changed: tuple[str, ...]) -> Unit[Then]:
        """Part of a unit: append SessionChanged."""
        draft = Draft(
            kind=Kind.SESSION_CHANGED,
            turn_id="",
            payload=lambda sequence, _time: self._codec.session_changed(session, changed, sequence),
        )
        entries = yield from self._journal.append(session.id, [draft], self._clock.now_us())
        return lambda: self._publish(entries)

    def context_changed(self, session_id: str, version: int, keys: Sequence[str]) -> Unit[Then]:
        """Part of a unit: append ContextChanged for the session's own scope."""
        payload = self._codec.context_changed(version, keys)
        draft = Draft(kind=Kind.CONTEXT_CHANGED, turn_id="", payload=lambda _sequence, _time: payload)
        entries = yield from self._journal.append(session_id, [draft], self._clock.now_us())
        return lambda: self._publish(entries)

    def cancel_all(self, session: str) -> Unit[Then]:
        """Part of a unit: every open turn of the session ends as cancelled."""
        interrupted = yield from self._turns.interrupt(session, self._clock.now_us())

        def then() -> None:
            self._publish(interrupted.entries)
            for turn_id in interrupted.running:
                self._stop(turn_id, "")

        return then

    def forget(self, session: str) -> Unit[Then]:
        """Part of a unit that deletes the session: its running turns and its readers end after it."""
        rows = yield Statement(
            "SELECT id FROM turn WHERE session_id = :session AND state = 2", {"session": session}
        )

        def then() -> None:
            for row in rows:
                self._stop(row["id"], "")
            self._close(session)

        return then

    def open_turns(self, sessions: Sequence[str]) -> Unit[Mapping[str, Sequence[OpenTurn]]]:
        """Part of a unit: the turns that are not over, oldest first, by session."""
        if not sessions:
            return {}
        names: dict[str, Value] = {f"s{index}": each for index, each in enumerate(sessions)}
        rows = yield Statement(
            "SELECT * FROM turn"  # noqa: S608 - names we made
            f" WHERE state < 5 AND session_id IN ({', '.join(f':{each}' for each in names)})"
            " ORDER BY accepted_sequence",
            names,
        )
        found: dict[str, list[OpenTurn]] = {}
        for row in rows:
            found.setdefault(row["session_id"], []).append(open_turn(row))
        return found
