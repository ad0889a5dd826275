"""Suggestions: what the assistant noticed and proposes. Nothing changes until the person says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from chassis.call import User
from chassis.clock import Clock
from chassis.database import Database, Row, Statement, Unit
from context_svc import preference_rows, repeats
from context_svc.errors import SuggestionNotFound
from context_svc.paging import PageTokens, Query, page_size
from context_svc.repeats import Command


class SuggestionState(IntEnum):
    """Where a suggestion stands; the numbers are the contract's, and are stored."""

    PENDING = 1
    ACCEPTED = 2
    DISMISSED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A choice that speaks for a suggestion."""

    session_id: str
    turn_id: str
    choose_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A value that is proposed for a preference, and what it is drawn from, oldest first."""

    id: str
    field: str
    value: str
    evidence: tuple[Evidence, ...]
    state: SuggestionState
    create_us: int
    resolve_us: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What the person decided."""

    command: Command
    suggestion_id: str
    accepted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of suggestions; `next_token` is empty at the end."""

    suggestions: Sequence[Suggestion]
    next_token: str


class Accept(Protocol):
    """Adds an accepted value to the preferences."""

    def __call__(self, account_id: str, field: str, value: str, now_us: int, /) -> Unit[None]:
        """Part of a unit."""


class SuggestionAnswers(Protocol):
    """How answers are written."""

    def resolved(self, suggestion: Suggestion) -> bytes:
        """A serialised ResolveSuggestionResponse."""


class Suggestions:
    """Lists and resolves them. Another person's suggestion is not found."""

    def __init__(
        self, database: Database, clock: Clock, pages: PageTokens, accept: Accept, answers: SuggestionAnswers
    ) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages
        self._accept = accept
        self._answers = answers

    async def list_page(self, user: User, *, size: int, token: str, state: int) -> Page:
        """A page, newest first; `state` 0 means all. Raises PageTokenInvalid."""
        query = Query(account=user.account, name="suggestions", filters={"state": state})
        after, limit = self._pages.read(query, token, (int, str)), page_size(size)
        found = await self._database.read(lambda: _page(user.account, state, after, limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        return Page(
            suggestions=found[:limit],
            next_token=self._pages.issue(query, (last.create_us, last.id)) if last else "",
        )

    async def resolve(self, user: User, resolution: Resolution) -> bytes:
        """Accept or dismiss one; the serialised answer. Raises SuggestionNotFound and IdempotencyKeyReused."""
        now_us = self._clock.now_us()
        return await self._database.write(user.account, lambda: self._resolve(user, resolution, now_us))

    def _resolve(self, user: User, resolution: Resolution, now_us: int) -> Unit[bytes]:
        yield from preference_rows.lock(user.account, now_us)
        if (earlier := (yield from repeats.answered(resolution.command))) is not None:
            return earlier.answer or b""
        state = SuggestionState.ACCEPTED if resolution.accepted else SuggestionState.DISMISSED
        rows = yield Statement(
            "UPDATE suggestion SET state = :state, resolve_us = :now"
            " WHERE id = :id AND account_id = :account AND state = 1 RETURNING *",
            {
                "state": int(state),
                "now": now_us,
                "id": resolution.suggestion_id,
                "account": user.account,
            },
        )
        if not rows:
            raise SuggestionNotFound
        suggestion = _suggestion(rows[0])
        if resolution.accepted:
            yield from self._accept(user.account, suggestion.field, suggestion.value, now_us)
        answer = self._answers.resolved(suggestion)
        yield from repeats.remember(resolution.command, answer, version=0, now_us=now_us)
        return answer


def add(account_id: str, new: Suggestion) -> Unit[bool]:
    """Part of a unit: propose it, unless the same was ever proposed: what was dismissed does not return."""
    evidence = [[each.session_id, each.turn_id, each.choose_us] for each in new.evidence]
    rows = yield Statement(
        "INSERT INTO suggestion (id, account_id, field, value, evidence, state, create_us)"
        " VALUES (:id, :account, :field, :value, :evidence, 1, :now)"
        " ON CONFLICT (account_id, field, value) DO NOTHING RETURNING id",
        {
            "id": new.id,
            "account": account_id,
            "field": new.field,
            "value": new.value,
            "evidence": json.dumps(evidence),
            "now": new.create_us,
        },
    )
    return bool(rows)


def _page(
    account_id: str, state: int, after: Sequence[str | int] | None, limit: int
) -> Unit[list[Suggestion]]:
    wanted = " AND state = :state" if state else ""
    behind = " AND (create_us, id) < (:after_us, :after_id)" if after else ""
    rows = yield Statement(
        f"SELECT * FROM suggestion WHERE account_id = :account{wanted}{behind}"  # noqa: S608 - constant pieces
        " ORDER BY create_us DESC, id DESC LIMIT :limit",
        {
            "account": account_id,
            "limit": limit,
            **({"state": state} if state else {}),
            **({"after_us": after[0], "after_id": after[1]} if after else {}),
        },
    )
    return [_suggestion(row) for row in rows]


def all_of(account_id: str) -> Unit[list[Suggestion]]:
    """Part of a unit: everything that was ever proposed to the account, the oldest first."""
    return (yield from _page(account_id, 0, None, 10_000))[::-1]


def keep(account_id: str, value: Suggestion) -> Unit[bool]:
    """Part of a unit: keep a suggestion as it stood elsewhere, unless the same was ever proposed here."""
    evidence = [[each.session_id, each.turn_id, each.choose_us] for each in value.evidence]
    rows = yield Statement(
        "INSERT INTO suggestion (id, account_id, field, value, evidence, state, create_us, resolve_us)"
        " VALUES (:id, :account, :field, :value, :evidence, :state, :created, :resolved)"
        " ON CONFLICT DO NOTHING RETURNING id",
        {
            "id": value.id,
            "account": account_id,
            "field": value.field,
            "value": value.value,
            "evidence": json.dumps(evidence),
            "state": int(value.state),
            "created": value.create_us,
            "resolved": value.resolve_us,
        },
    )
    return bool(rows)


def _suggestion(row: Row) -> Suggestion:
    return Suggestion(
        id=row["id"],
        field=row["field"],
        value=row["value"],
        evidence=tuple(
            Evidence(session_id=session, turn_id=turn, choose_us=moment)
            for session, turn, moment in json.loads(row["evidence"])
        ),
        state=SuggestionState(row["state"]),
        create_us=row["create_us"],
        resolve_us=row["resolve_us"],
    )
