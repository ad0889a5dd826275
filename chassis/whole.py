"""A file that is there whole or not at all, whoever writes it at the same time."""

from __future__ import annotations

import os
from pathlib import Path

from chassis import ids


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put the file in place of the one that is there; it is on the disk when this returns. Raises OSError.

    Replicas that share a folder may do this at once: each has its own draft, and the last one stays.
    """
    draft = _draft(path, data, mode)
    try:
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def create_whole(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Put the file where there is none yet; False when somebody was faster, whose file stays. Raises OSError."""
    draft = _draft(path, data, mode)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _draft(path: Path, data: bytes, mode: int) -> Path:
    """The data in a file of its own beside `path`, on the disk."""
    draft = path.with_name(f"{path.name}.{ids.uuid()}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return draft
