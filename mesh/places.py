"""Where a mesh keeps its files: the data folder, and a short private folder for its sockets."""

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import PlaceUnsafe

LONGEST_SOCKET_PATH = 107  # bytes: sun_path holds 108 with its closing zero
_LONGEST_SOCKET_NAME = len("/orchestrator.sock.internal")


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The folders of one mesh, absolute. `run` holds sockets; it alone may lie outside `data`."""

    data: Path
    run: Path

    @property
    def keys(self) -> Path:
        """Room keys (private, 0600) and the public key sets."""
        return self.data / "keys"

    @property
    def logs(self) -> Path:
        """One rotating log for each room."""
        return self.data / "logs"

    @property
    def models(self) -> Path:
        """Weights of the built-in models."""
        return self.data / "models"

    @property
    def reference(self) -> Path:
        """The offline reference and gazetteer; made when it is first got."""
        return self.data / "reference"

    @property
    def client(self) -> Path:
        """What `mesh chat` keeps for the person at this terminal."""
        return self.data / "client"

    @property
    def record(self) -> Path:
        """The record of the running mesh."""
        return self.data / "run.json"

    @property
    def lock(self) -> Path:
        """Held by the one `mesh up` that owns this data folder."""
        return self.data / "run.lock"

    def make(self) -> None:
        """Create the folders, readable by their owner alone. Raises PlaceUnsafe for a foreign folder."""
        for folder in (self.data, self.run, self.keys, self.logs, self.models, self.client):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _keep_private(folder)


def places(data: Path, *, runtime: Path | None) -> Places:
    """Answer the places of the mesh in `data`. Sockets live in `<data>/run` when that path is short enough,
    else in a folder named after the data folder, below `runtime` (the session's own) or the temporary folder.
    """
    data = data.absolute()
    run = data / "run"
    if _fits(run):
        return Places(data=data, run=run)
    mark = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    outside = Path(tempfile.gettempdir()) / f"mesh-{os.getuid()}-{mark}"
    inside = runtime / f"mesh-{mark}" if runtime else outside
    return Places(data=data, run=inside if _fits(inside) else outside)


def _fits(run: Path) -> bool:
    return len(os.fsencode(run)) + _LONGEST_SOCKET_NAME <= LONGEST_SOCKET_PATH


def _keep_private(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PlaceUnsafe(
            f"{folder} is not a folder of yours.",
            "Remove it, or set MESH_DATA_DIR to a folder that only you use.",
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
