"""What the agent can do, as orchestrator_svc tells it, in pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from context_svc.errors import ActionNotFound
from context_svc.paging import PageTokens, Query, page_size


class Named(Protocol):
    """An action: this room knows only its name."""

    @property
    def name(self) -> str:
        """Unique in the mesh."""


A = TypeVar("A", bound=Named)


@dataclass(frozen=True, slots=True)
class ActionPage(Generic[A]):
    """Actions by name, and the token of the next page; empty at the end."""

    actions: Sequence[A]
    next_page_token: str


class Capabilities(Generic[A]):
    """Pages over the actions of an account."""

    def __init__(self, actions: Callable[[str], Awaitable[Sequence[A]]], tokens: PageTokens) -> None:
        self._actions = actions
        self._tokens = tokens

    async def page(self, account_id: str, *, size: int, token: str) -> ActionPage[A]:
        """A page. Raises PageTokenInvalid and PeerUnavailable."""
        query = Query(account=account_id, name="capabilities", filters={})
        after = self._tokens.read(query, token, (str,))
        actions = [
            each for each in await self._actions(account_id) if after is None or each.name > str(after[0])
        ]
        limit = page_size(size)
        more = len(actions) > limit
        return ActionPage(
            actions[:limit], self._tokens.issue(query, [actions[limit - 1].name]) if more else ""
        )

    async def named(self, account_id: str, name: str) -> A:
        """The action of that name. Raises ActionNotFound and PeerUnavailable."""
        for action in await self._actions(account_id):
            if action.name == name:
                return action
        raise ActionNotFound
