"""The turn table and what hangs on it: its rows as values, and the statements that add and read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from chassis import failpoints
from chassis.database import Row, Statement, Unit
from context_svc.errors import IdempotencyKeyReused, MessageNotFound, TurnNotFound

if TYPE_CHECKING:  # it reads messages, which read turns
    from context_svc.search import Indexing

USER = 1
ASSISTANT = 2


class TurnState(IntEnum):
    """Where a turn stands. The numbers are those of the contract, and are stored."""

    QUEUED = 1
    RUNNING = 2
    WAITING = 3
    KEY_NEEDED = 4
    FINISHED = 5
    FAILED = 6
    CANCELLED = 7

    @property
    def over(self) -> bool:
        """Whether nothing can happen to the turn any more."""
        return self >= TurnState.FINISHED


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTurn:
    """A turn that is not over. `state` is the contract's number; times are microseconds since 1970."""

    turn_id: str
    state: int
    message_id: str
    sequence: int
    expire_us: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTurn:
    """A turn to queue. It answers a message, or runs `action` and leaves its answer below `parent_id`."""

    id: str
    session_id: str
    account_id: str
    answer_id: str
    options: bytes
    sequence: int
    message_id: str = ""
    parent_id: str = ""
    action: bytes | None = None
    action_approved: bool = False
    job_id: str = ""
    alternative: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A client-made id, and a hash of all that a repetition must have in common with the first request."""

    account_id: str
    request_id: str
    body_hash: bytes


def insert_turn(new: NewTurn, now_us: int) -> Unit[None]:
    """Queue a turn."""
    yield Statement(
        "INSERT INTO turn (id, session_id, account_id, state, message_id, parent_id, answer_id, options, action,"
        " action_approved, job_id, alternative, accepted_sequence, create_us)"
        " VALUES (:id, :session, :account, :state, :message, :parent, :answer, :options, :action, :approved,"
        " :job, :alternative, :sequence, :now)",
        {
            "id": new.id,
            "session": new.session_id,
            "account": new.account_id,
            "state": TurnState.QUEUED,
            "message": new.message_id,
            "parent": new.parent_id,
            "answer": new.answer_id,
            "options": new.options,
            "action": new.action,
            "approved": int(new.action_approved),
            "job": new.job_id,
            "alternative": int(new.alternative),
            "sequence": new.sequence,
            "now": now_us,
        },
    )


def seen(key: Key) -> Unit[str | None]:
    """The turn that the id was used for, perhaps empty; None for a new id. Raises IdempotencyKeyReused."""
    rows = yield Statement(
        "SELECT body_hash, turn_id FROM idempotency WHERE account_id = :account AND request_id = :request",
        {"account": key.account_id, "request": key.request_id},
    )
    if not rows:
        return None
    if bytes(rows[0]["body_hash"]) != key.body_hash:
        raise IdempotencyKeyReused
    return str(rows[0]["turn_id"])


def remember(key: Key, session_id: str, turn_id: str) -> Unit[None]:
    """The id was used; the row lives as long as its session."""
    yield Statement(
        "INSERT INTO idempotency (account_id, request_id, session_id, body_hash, turn_id)"
        " VALUES (:account, :request, :session, :hash, :turn)",
        {
            "account": key.account_id,
            "request": key.request_id,
            "session": session_id,
            "hash": key.body_hash,
            "turn": turn_id,
        },
    )
    failpoints.reach("after_idem_row")


def locked_turn(account_id: str, session_id: str, turn_id: str) -> Unit[Row]:
    """The turn's row, under its session's lock. Raises TurnNotFound."""
    yield from lock_session(session_id)
    rows = yield Statement(
        "SELECT * FROM turn WHERE id = :turn AND session_id = :session AND account_id = :account",
        {"turn": turn_id, "session": session_id, "account": account_id},
    )
    if not rows:
        raise TurnNotFound
    return rows[0]


def open_turns(session_id: str) -> Unit[tuple[OpenTurn, ...]]:
    """The turns of a session that are not over, oldest first."""
    return tuple(open_turn(row) for row in (yield from open_rows(session_id)))


def open_rows(session_id: str) -> Unit[Sequence[Row]]:
    """The rows of a session's turns that are not over, oldest first."""
    return (
        yield Statement(
            "SELECT * FROM turn WHERE session_id = :session AND state < 5 ORDER BY accepted_sequence",
            {"session": session_id},
        )
    )


def open_turn(row: Row) -> OpenTurn:
    """A row of a turn that is not over."""
    return OpenTurn(
        turn_id=row["id"],
        state=row["state"],
        message_id=row["message_id"],
        sequence=row["accepted_sequence"],
        expire_us=row["wait_expire_us"],
    )


def note_cancel(turn_id: str, request_id: str, device_id: str) -> Unit[None]:
    """Ask the turn's owner to stop it; the first to ask is kept."""
    yield Statement(
        "UPDATE turn SET cancel_request = :request, cancel_device = :device"
        " WHERE id = :turn AND cancel_request IS NULL",
        {"request": request_id, "device": device_id, "turn": turn_id},
    )


def store_message(
    session_id: str,
    *,
    message_id: str,
    turn_id: str,
    parent_id: str,
    depth: int,
    role: int,
    sequence: int,
    data: bytes,
    preview: str,
    now_us: int,
    indexing: Indexing | None = None,
) -> Unit[None]:
    """Store a message, to be found by its words, and make it the newest of its session."""
    yield Statement(
        "INSERT INTO message (session_id, id, turn_id, parent_id, depth, role, sequence, create_us, data)"
        " VALUES (:session, :id, :turn, :parent, :depth, :role, :sequence, :now, :data)",
        {
            "session": session_id,
            "id": message_id,
            "turn": turn_id,
            "parent": parent_id,
            "depth": depth,
            "role": role,
            "sequence": sequence,
            "now": now_us,
            "data": data,
        },
    )
    yield Statement(
        "UPDATE session SET head_message_id = :id, preview = :preview WHERE id = :session",
        {"id": message_id, "preview": preview, "session": session_id},
    )
    if indexing is not None:
        yield from indexing.store(session_id, message_id, data)


def depth_below(session_id: str, parent_id: str) -> Unit[int]:
    """How deep a child of that message, or of that coming answer, stands in the tree; 0 without one.

    Raises MessageNotFound.
    """
    levels = 0
    while parent_id:
        levels += 1
        rows = yield Statement(
            "SELECT depth FROM message WHERE session_id = :session AND id = :id",
            {"session": session_id, "id": parent_id},
        )
        if rows:
            return int(rows[0]["depth"]) + levels
        base = yield from base_of(session_id, parent_id)
        if base is None:
            raise MessageNotFound("the parent of a new message")
        parent_id = base
    return levels


def base_of(session_id: str, answer_id: str) -> Unit[str | None]:
    """What the turn with this answer hangs below: its message, or another one. None: there is no such turn."""
    rows = yield Statement(
        "SELECT message_id, parent_id FROM turn WHERE session_id = :session AND answer_id = :answer",
        {"session": session_id, "answer": answer_id},
    )
    return str(rows[0]["message_id"] or rows[0]["parent_id"]) if rows else None


def lock_session(session_id: str) -> Unit[None]:
    """Take the lock under which everything of a session is written, before what it guards is read."""
    yield Statement("UPDATE session SET state = state WHERE id = :session", {"session": session_id})
