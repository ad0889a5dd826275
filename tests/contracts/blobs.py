"""What every store promises behind `media_svc.blobs.Blobs`."""

from __future__ import annotations

import asyncio
import io
import random

import pytest

from media_svc.blobs import PIECE, BlobMissing, Blobs


async def content(blobs: Blobs, key: str, *, offset: int = 0, length: int) -> bytes:
    return b"".join([piece async for piece in blobs.read(key, offset=offset, length=length)])


class BlobsContract:
    """Run on every adapter by `test_blobs.py`."""

    async def test_an_empty_store_answers(self, blobs: Blobs) -> None:
        await blobs.ready()

    async def test_what_was_put_is_read_back(self, blobs: Blobs) -> None:
        await blobs.put("kept/o/a", b"hello")
        assert await content(blobs, "kept/o/a", length=5) == b"hello"

    async def test_a_file_is_kept_like_bytes(self, blobs: Blobs) -> None:
        data = random.Random(1).randbytes(12_000_001)
        await blobs.put("kept/o/large", io.BytesIO(data))
        pieces = [piece async for piece in blobs.read("kept/o/large", length=len(data))]
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= PIECE

    async def test_any_range_within_can_be_read(self, blobs: Blobs) -> None:
        data = random.Random(2).randbytes(700_000)
        await blobs.put("kept/o/a", data)
        for offset, length in ((0, 1), (699_999, 1), (262_143, 2), (1, 699_999), (300_000, 262_144)):
            assert (
                await content(blobs, "kept/o/a", offset=offset, length=length)
                == data[offset : offset + length]
            )

    async def test_putting_again_replaces_the_whole(self, blobs: Blobs) -> None:
        await blobs.put("kept/o/a", b"a longer first text")
        await blobs.put("kept/o/a", b"short")
        assert await content(blobs, "kept/o/a", length=5) == b"short"

    async def test_a_missing_key_is_told_apart(self, blobs: Blobs) -> None:
        with pytest.raises(BlobMissing):
            await content(blobs, "kept/o/none", length=1)

    async def test_what_is_removed_is_gone_and_removing_it_again_is_no_failure(self, blobs: Blobs) -> None:
        await blobs.put("kept/o/a", b"1")
        await blobs.put("kept/o/ab", b"2")
        await blobs.remove("kept/o/a")
        await blobs.remove("kept/o/a")
        with pytest.raises(BlobMissing):
            await content(blobs, "kept/o/a", length=1)
        assert await content(blobs, "kept/o/ab", length=1) == b"2"

    async def test_a_folder_is_removed_and_its_neighbour_stays(self, blobs: Blobs) -> None:
        for key in ("incoming/u1/a", "incoming/u1/b", "incoming/u10/a"):
            await blobs.put(key, b"x")
        await blobs.remove("incoming/u1/")
        await blobs.remove("incoming/u1/")
        for key in ("incoming/u1/a", "incoming/u1/b"):
            with pytest.raises(BlobMissing):
                await content(blobs, key, length=1)
        assert await content(blobs, "incoming/u10/a", length=1) == b"x"

    async def test_a_reader_keeps_what_it_began_to_read_or_learns_that_it_is_gone(self, blobs: Blobs) -> None:
        first, second = b"1" * 2_000_000, b"2" * 2_000_000
        await blobs.put("kept/o/a", first)

        async def reading() -> bytes:
            return await content(blobs, "kept/o/a", length=len(first))

        readers = [asyncio.ensure_future(reading()) for _ in range(4)]
        await blobs.put("kept/o/a", second)
        assert {await reader for reader in readers} <= {first, second}
