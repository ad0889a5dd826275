from __future__ import annotations

import os
from pathlib import Path

import pytest

from chassis.errors import StoreUnavailable
from media_svc.blobs import Blobs, open_blobs
from tests.contracts.blobs import BlobsContract


class TestFolder(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Blobs:
        return open_blobs(f"file://{tmp_path}/blobs")

    async def test_nobody_else_can_read_what_is_kept(self, blobs: Blobs, tmp_path: Path) -> None:
        await blobs.put("kept/o/a", b"private")
        assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0
        assert (tmp_path / "blobs/kept/o/a").stat().st_mode & 0o077 == 0

    async def test_bytes_and_name_are_synced_before_put_returns(
        self, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[Path] = []
        real = os.fsync

        def fsync(handle: int) -> None:
            synced.append(Path(f"/proc/self/fd/{handle}").resolve())
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        await blobs.put("kept/o/a", b"x")
        kept = (tmp_path / "blobs").resolve()
        assert synced == [kept / "kept/o/a", kept / "kept/o", kept / "kept", kept]

    async def test_a_folder_that_cannot_be_written_is_a_store_that_fails(
        self, blobs: Blobs, tmp_path: Path
    ) -> None:
        (tmp_path / "blobs/kept").write_bytes(b"a file where a folder should be")
        with pytest.raises(StoreUnavailable):
            await blobs.put("kept/o/a", b"x")


class TestMemory(BlobsContract):
    @pytest.fixture
    def blobs(self) -> Blobs:
        return open_blobs("memory:///")
