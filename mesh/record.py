"""The record of the running mesh: who owns the data folder, and where its sockets and ports are.

The lock is the operating system's, so it is gone when its owner is, however that ended; run.json may
outlive it and is then stale.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from chassis.whole import write_whole
from mesh.errors import AlreadyRunning, NotRunning
from mesh.places import Places


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What one running mesh says of itself."""

    pid: int
    run: str
    bind: str
    port: int
    model: str
    rooms: dict[str, int]


@contextmanager
def owned(places: Places) -> Iterator[None]:
    """Own the data folder inside the block; run.json is removed after it. Raises AlreadyRunning."""
    with places.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"A mesh already runs on {places.data}{_whose(places)}.",
                "Stop it first, or start another beside it: MESH_DATA_DIR=… MESH_PORT=… make run.",
            ) from None
        try:
            yield
        finally:
            places.record.unlink(missing_ok=True)


def write(places: Places, record: Record) -> None:
    """Put the record in its place, whole or not at all."""
    write_whole(places.record, json.dumps(asdict(record), indent=1).encode())


def running(places: Places) -> Record:
    """Answer the record of the mesh that runs on this data folder. Raises NotRunning."""
    record = last(places)
    if record is None or not is_owned(places):
        raise NotRunning(f"No mesh runs on {places.data}.", "Start one with `make run` (or `mesh up`).")
    return record


def last(places: Places) -> Record | None:
    """Answer the record that was written last, if it is still there and readable."""
    try:
        return Record(**json.loads(places.record.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_owned(places: Places) -> bool:
    """Answer whether a mesh owns the data folder now."""
    try:
        with Path(places.lock).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _whose(places: Places) -> str:
    record = last(places)
    return f" (process {record.pid}, port {record.port})" if record else ""
