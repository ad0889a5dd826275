"""Commands that a client may repeat: what was asked under which id, and what was answered, for a day."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta

from chassis.database import Statement, Unit
from context_svc.errors import IdempotencyKeyReused

_KEPT_US = round(timedelta(hours=24).total_seconds() * 1e6)


def shape(name: str, *parts: str | int | bool | Sequence[object] | None) -> str:
    """A digest of all that a repetition must have in common with the first request. Never of a password."""
    return hashlib.sha256(json.dumps([name, *parts]).encode()).hexdigest()


def answered(account: str, request_id: str, body_hash: str, now_us: int) -> Unit[str | None]:
    """Part of a unit: the answer of the same command, None for a new one. Raises IdempotencyKeyReused."""
    rows = yield Statement(
        "SELECT body_hash, answer FROM command WHERE account_id = :account AND request_id = :request_id"
        " AND create_us > :since_us",
        {"account": account, "request_id": request_id, "since_us": now_us - _KEPT_US},
    )
    if not rows:
        return None
    if rows[0]["body_hash"] != body_hash:
        raise IdempotencyKeyReused
    return str(rows[0]["answer"])


def keep(account: str, request_id: str, body_hash: str, answer: str, now_us: int) -> Unit[None]:
    """Part of a unit: remember the command and its answer; older ones are forgotten."""
    yield Statement("DELETE FROM command WHERE create_us <= :before_us", {"before_us": now_us - _KEPT_US})
    yield Statement(
        "INSERT INTO command (account_id, request_id, body_hash, answer, create_us)"
        " VALUES (:account, :request_id, :body_hash, :answer, :now_us)",
        {
            "account": account,
            "request_id": request_id,
            "body_hash": body_hash,
            "answer": answer,
            "now_us": now_us,
        },
    )
