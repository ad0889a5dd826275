"""What context_svc does with a person's files on their behalf: hold, let go, hand out, take in, erase."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import StoreUnavailable
from media_svc import claims, estate, outbox
from media_svc.blobs import BlobMissing, Blobs, kept_prefix
from media_svc.claims import Claim
from media_svc.library import Media
from media_svc.sweeping import Sweeper


@dataclass(frozen=True, kw_only=True, slots=True)
class Erased:
    """How far an erasure is: done, or so many removals still to come."""

    done: bool
    remaining: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The end of an export: how many files it held."""

    files: int


class Stewardship:
    """The calls of context_svc. The person is always the one that the call's grant names."""

    def __init__(self, database: Database, blobs: Blobs, sweeper: Sweeper, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._sweeper = sweeper
        self._clock = clock

    async def claim(self, wanted: Claim) -> Sequence[Media]:
        """Hold files. Raises MediaNotFound, IdempotencyKeyReused and TokenRevoked."""
        now = self._clock.now_us()
        return await self._database.write(wanted.account, lambda: claims.claim(wanted, now))

    async def release(self, account: str, claim_ids: Sequence[str]) -> None:
        """Let go of claims; what nothing holds any more is deleted."""
        now = self._clock.now_us()
        await self._database.write(account, lambda: claims.release(account, claim_ids, now))
        self._sweeper.nudge()

    async def erase(self, account: str, job_id: str) -> Erased:
        """Erase everything of an account and refuse what comes later. Again after a failure, it goes on.

        Raises StoreUnavailable when database or object store fail.
        """
        now = self._clock.now_us()
        closed = await self._database.write(account, lambda: estate.close(account, job_id, now))
        for prefix in closed.prefixes:
            await self._blobs.remove(prefix)
        await self._database.write(account, lambda: estate.erase(account, closed, now))
        await self._database.scrub(whole=True)
        later = self._clock.now_us()
        remaining = await self._database.read(lambda: outbox.due_below(kept_prefix(account), later))
        return Erased(done=not remaining, remaining=len(remaining))

    async def export(self, account: str, *, with_bytes: bool) -> AsyncIterator[Media | bytes | Exported]:
        """Every file, each followed by its bytes; the end last.

        Raises StoreUnavailable, also when the bytes of a file are missing.
        """
        after, count, now = "", 0, self._clock.now_us()
        while page := await self._database.read(lambda after=after: estate.files(account, after, now)):  # type: ignore[misc]
            for media in page:
                yield media
                if with_bytes:
                    async for piece in self._bytes(media):
                        yield piece
                count += 1
            after = page[-1].id
        yield Exported(files=count)

    async def _bytes(self, media: Media) -> AsyncIterator[bytes]:
        sent = 0
        try:
            async for piece in self._blobs.read(media.blob_key, length=media.size):
                sent += len(piece)
                yield piece
        except BlobMissing as error:
            raise StoreUnavailable("a file's bytes are missing") from error
        if sent != media.size:
            raise StoreUnavailable("a file is shorter than its row says")
