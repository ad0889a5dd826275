"""Who watches a scope: open streams of this process, woken when their scope changed, closed when they must end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from chassis.call import User
from context_svc.errors import TooManyStreams
from context_svc.readers import LIFETIME, CloseReason


class Watcher:
    """One open watch. It holds no news, only that there is some: what changed is read from the store."""

    def __init__(self, user: User, scope_id: str) -> None:
        self.account_id = user.account
        self.sign_in = user.sign_in
        self.scope_id = scope_id
        self.closed: CloseReason | None = None
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """The scope changed."""
        self._wake.set()

    def close(self, reason: CloseReason) -> None:
        """End the watch."""
        self.closed = reason
        self._wake.set()

    async def woken(self, within: float) -> bool:
        """Wait for `wake` or `close`; False when neither came in that many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True


class Watchers:
    """All open watches of this process."""

    def __init__(self, *, per_account: int = 64) -> None:
        self._per_account = per_account
        self._open: dict[str, set[Watcher]] = {}

    def __len__(self) -> int:
        return len(self._all())

    @contextmanager
    def watcher(self, user: User, scope_id: str) -> Iterator[Watcher]:
        """A watch of one scope while the block lasts. Raises TooManyStreams."""
        if sum(each.account_id == user.account for each in self._all()) >= self._per_account:
            raise TooManyStreams(quota="watches of an account")
        watcher = Watcher(user, scope_id)
        self._open.setdefault(scope_id, set()).add(watcher)
        lifetime = LIFETIME * random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnections, guards nothing
        end = asyncio.get_running_loop().call_later(lifetime, watcher.close, CloseReason.EXPIRED)
        try:
            yield watcher
        finally:
            end.cancel()
            self._open[scope_id].discard(watcher)
            if not self._open[scope_id]:
                del self._open[scope_id]

    def ring(self, scope_id: str) -> None:
        """The scope has changed, durably."""
        for watcher in self._open.get(scope_id, ()):
            watcher.wake()

    def close_scope(self, scope_id: str) -> None:
        """The scope's session was deleted: end every watch of it."""
        for watcher in self._open.get(scope_id, ()):
            watcher.close(CloseReason.DELETED)

    def close_all(self, reason: CloseReason) -> None:
        """End every watch."""
        for watcher in self._all():
            watcher.close(reason)

    def close_sign_ins(self, sign_ins: Collection[str], reason: CloseReason) -> None:
        """End every watch of these sign-ins."""
        for watcher in self._all():
            if watcher.sign_in in sign_ins:
                watcher.close(reason)

    def _all(self) -> tuple[Watcher, ...]:
        return tuple(each for watchers in self._open.values() for each in watchers)
