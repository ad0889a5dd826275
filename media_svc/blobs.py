"""Where the bytes lie: a folder, S3, Google or Azure storage behind one port.

Keys are content-addressed per owner, and each kept file has its own: what is deleted can never be what
somebody has just stored again. ::

    kept/<owner>/<sha256>.<media id>      a file; <owner> is a digest of the account's id
    incoming/<upload id>/<part id>        bytes of an upload that is not whole yet
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from chassis import ids
from chassis.errors import StoreUnavailable

PIECE = 256 * 1024
_WRITES = 5  # tries to write a file whose folder others keep removing


class BlobMissing(Exception):
    """The store has nothing under that key."""


class Blobs(Protocol):
    """Bytes by key. Every method raises StoreUnavailable when the store fails."""

    async def put(self, key: str, content: bytes | BinaryIO) -> None:
        """Keep these bytes, or all of that file: durable on return, and never there by half."""

    def read(self, key: str, *, offset: int = 0, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `offset` (both within the object), in pieces of at most 256 KiB.

        Raises BlobMissing.
        """

    async def remove(self, key: str) -> None:
        """Remove one object; for a key that ends with ``/``, all below it. What is missing is removed."""

    async def ready(self) -> None:
        """Return when the store answers."""


def kept_key(account: str, sha256: str, media_id: str) -> str:
    """A new file's own key."""
    return f"{kept_prefix(account)}{sha256}.{media_id}"


def kept_prefix(account: str) -> str:
    """Every kept file of a person."""
    return f"kept/{hashlib.sha256(account.encode()).hexdigest()[:32]}/"


def parts_prefix(upload_id: str) -> str:
    """Everything that arrived of an upload."""
    return f"incoming/{upload_id}/"


def part_key(upload_id: str) -> str:
    """A new part's own key."""
    return f"{parts_prefix(upload_id)}{ids.uuid()}"


def open_blobs(url: str) -> Blobs:
    """The store at a URL (``file:///folder``, ``s3://…``, ``gs://…``, ``az://…``, ``memory://``)."""
    if url.startswith("file://"):
        folder = Path(url.removeprefix("file://"))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ObjectBlobs(LocalStore(folder, automatic_cleanup=True), folder)
    return ObjectBlobs(from_url(url))


class ObjectBlobs:
    """The port over `obstore`. A local `folder` is synced to the disk, which obstore leaves to its caller."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    async def put(self, key: str, content: bytes | BinaryIO) -> None:
        """See `Blobs.put`."""
        with _translated():
            await self._write(key, content)
            if self._folder is not None:
                with suppress(FileNotFoundError):  # it was kept, and somebody has removed it since
                    await asyncio.to_thread(_sync_file, self._folder, key)

    async def read(self, key: str, *, offset: int = 0, length: int) -> AsyncIterator[bytes]:
        """See `Blobs.read`."""
        with _found(), _translated():
            found = await obstore.get_async(self._store, key, options={"range": (offset, offset + length)})
            async for piece in found.stream(min_chunk_size=PIECE):
                for at in range(0, len(piece), PIECE):
                    yield bytes(piece[at : at + PIECE])

    async def remove(self, key: str) -> None:
        """See `Blobs.remove`."""
        with _translated():
            for each in await self._below(key) if key.endswith("/") else [key]:
                await self._remove_one(each)
            if self._folder is not None:
                await asyncio.to_thread(_sync_parents, self._folder, key)

    async def ready(self) -> None:
        """See `Blobs.ready`."""
        with _translated():
            await anext(obstore.list(self._store, "incoming", chunk_size=1), None)

    async def _write(self, key: str, content: bytes | BinaryIO) -> None:
        """Write an object; anew when its folder, empty until then, was removed together with the last file in it."""
        for _ in range(_WRITES - 1):
            try:
                await obstore.put_async(self._store, key, content)
            except (FileNotFoundError, BaseError) as error:
                if self._folder is None or not _vanished(error):
                    raise
                if not isinstance(content, bytes):
                    content.seek(0)
            else:
                return
        await obstore.put_async(self._store, key, content)

    async def _below(self, prefix: str) -> list[str]:
        found = await obstore.list(self._store, prefix.rstrip("/")).collect_async()
        return [each["path"] for each in found]

    async def _remove_one(self, key: str) -> None:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BlobMissing(str(error.__cause__)) from error
        raise


def _vanished(error: Exception) -> bool:
    """Whether a folder went away while something was put into it; obstore says so in words only."""
    return isinstance(error, FileNotFoundError) or "No such file or directory" in str(error)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise StoreUnavailable(f"the object store failed: {type(error).__name__}") from error


def _sync_file(folder: Path, key: str) -> None:
    path = folder / key
    path.chmod(0o600)
    _sync(path)
    _sync_parents(folder, key)


def _sync_parents(folder: Path, key: str) -> None:
    for parent in (folder / key).parents:
        with suppress(FileNotFoundError):  # a folder that became empty is removed by whoever emptied it
            _sync(parent)
        if parent == folder:
            return


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
