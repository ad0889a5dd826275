"""The kept files as the servicer asks for them: rows from the database, bytes from the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum

from chassis.clock import Clock
from chassis.database import Database
from media_svc import library
from media_svc.blobs import BlobMissing, Blobs
from media_svc.errors import AnalyzerUnavailable, MediaNotFound, MediaUnreadable, RangeInvalid
from media_svc.kinds import Kind
from media_svc.library import Media, Page
from media_svc.sweeping import Sweeper


class Variant(Enum):
    """A form of a file."""

    STORED = "stored"
    THUMBNAIL = "thumbnail"
    MODEL = "model"
    TEXT = "text"


_POSSIBLE: dict[Variant, frozenset[Kind]] = {
    Variant.STORED: frozenset(Kind),
    Variant.THUMBNAIL: frozenset({Kind.IMAGE, Kind.DOCUMENT}),
    Variant.MODEL: frozenset({Kind.IMAGE}),
    Variant.TEXT: frozenset({Kind.DOCUMENT, Kind.AUDIO}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Bytes about to be sent: which part of which file."""

    media: Media
    offset: int
    length: int
    pieces: AsyncIterator[bytes]


class Shelf:
    """Files of all people. Every id of somebody else is unknown."""

    def __init__(
        self, database: Database, blobs: Blobs, sweeper: Sweeper, clock: Clock, *, quota: int
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._sweeper = sweeper
        self._clock = clock
        self.quota = quota

    async def find(self, account: str, media_id: str) -> Media:
        """One file. Raises MediaNotFound."""
        now = self._clock.now_us()
        return await self._database.read(lambda: library.find(account, media_id, now))

    async def page(self, account: str, *, kind: Kind | None, size: int, token: str) -> Page:
        """Some files, newest first. Raises PageTokenInvalid."""
        now = self._clock.now_us()
        return await self._database.read(
            lambda: library.page(account, kind=kind, size=size, token=token, now_us=now)
        )

    async def delete(self, account: str, media_id: str, *, allow_missing: bool) -> None:
        """Forget a file; its bytes follow. Raises MediaNotFound unless `allow_missing`."""
        now = self._clock.now_us()
        await self._database.write(
            account, lambda: library.delete(account, media_id, allow_missing=allow_missing, now_us=now)
        )
        self._sweeper.nudge()

    async def read(
        self, account: str, media_id: str, variant: Variant, *, offset: int, length: int
    ) -> Reading:
        """A range of a file; `length` 0 means to the end, and more than there is means what there is.

        Raises MediaNotFound, RangeInvalid, MediaUnreadable (it has no such variant) and AnalyzerUnavailable
        (the variant is not made here yet).
        """
        media = await self.find(account, media_id)
        check_variant(media.found.kind, variant)
        count = span(media.size, offset, length)
        return Reading(media=media, offset=offset, length=count, pieces=self._pieces(media, offset, count))

    async def _pieces(self, media: Media, offset: int, count: int) -> AsyncIterator[bytes]:
        try:
            async for piece in self._blobs.read(media.blob_key, offset=offset, length=count):
                yield piece
        except BlobMissing as error:
            raise MediaNotFound("its bytes are gone from the store") from error


def check_variant(kind: Kind, variant: Variant) -> None:
    """Raises MediaUnreadable or AnalyzerUnavailable, unless a file of this kind can be had like this."""
    if kind not in _POSSIBLE[variant]:
        raise MediaUnreadable
    if variant is not Variant.STORED:
        raise AnalyzerUnavailable


def span(size: int, offset: int, length: int) -> int:
    """How many bytes a range has. Raises RangeInvalid when it begins at the end or behind."""
    if offset >= size:
        raise RangeInvalid(metadata={"size": str(size)})
    return min(length or size, size - offset)
