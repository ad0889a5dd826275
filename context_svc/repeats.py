"""Commands that carry an id of the client's: asked again within a day, they answer as the first time."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.database import Statement, Unit
from context_svc.errors import IdempotencyKeyReused

KEEP_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command's id, and a digest of all that a repetition must have in common with it."""

    account_id: str
    request_id: str
    body_hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What the command answered; None once content that the answer held was deleted."""

    answer: bytes | None
    version: int


def answered(command: Command) -> Unit[Answered | None]:
    """The answer of an earlier call. Raises IdempotencyKeyReused. Call it under the lock of what is changed."""
    rows = yield Statement(
        "SELECT body_hash, version, answer FROM context_command"
        " WHERE account_id = :account AND request_id = :request",
        {"account": command.account_id, "request": command.request_id},
    )
    if not rows:
        return None
    if rows[0]["body_hash"] != command.body_hash:
        raise IdempotencyKeyReused
    answer = rows[0]["answer"]
    return Answered(answer=None if answer is None else bytes(answer), version=rows[0]["version"])


def remember(
    command: Command, answer: bytes, *, version: int, now_us: int, scope_id: str | None = None
) -> Unit[None]:
    """Keep an answer. With `scope_id` it holds content of that scope, and goes when content of it goes."""
    yield Statement(
        "INSERT INTO context_command (account_id, request_id, scope_id, body_hash, version, answer, create_us)"
        " VALUES (:account, :request, :scope, :hash, :version, :answer, :now)",
        {
            "account": command.account_id,
            "request": command.request_id,
            "scope": scope_id,
            "hash": command.body_hash,
            "version": version,
            "answer": answer,
            "now": now_us,
        },
    )


def forget(now_us: int) -> Unit[None]:
    """Remove answers that are older than a day."""
    yield Statement("DELETE FROM context_command WHERE create_us < :before", {"before": now_us - KEEP_US})
