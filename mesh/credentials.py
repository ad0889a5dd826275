"""The sign-in of the person at this terminal, kept in a file of their own (0600) and shared by their
terminals.
"""

import asyncio
import fcntl
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from chassis.whole import write_whole

_RETRY = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A sign-in. Times are microseconds since 1970. `password` is kept only for an account made by this
    command.
    """

    device_id: str
    email: str
    access_token: str
    access_expires_us: int
    refresh_token: str
    device_secret: str = ""
    password: str = ""


class Wallet:
    """The file of a sign-in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Credentials | None:
        """Answer the stored sign-in, or None when there is none that can be read."""
        try:
            return Credentials(**json.loads(self.path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def store(self, credentials: Credentials) -> None:
        """Replace the stored sign-in, whole or not at all, before its tokens are used."""
        write_whole(self.path, json.dumps(asdict(credentials)).encode())

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the sign-in alone: two terminals must not refresh at once, the second would replay the
        first's.
        """
        with self.path.with_suffix(".lock").open("a") as lock:
            while not _try_lock(lock.fileno()):  # noqa: ASYNC110  # another process cannot set our event
                await asyncio.sleep(_RETRY)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
