"""Who has the public port: found out before Envoy tries, so that the answer is a sentence."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from mesh.errors import PortTaken

_LISTENING = "0A"  # the state of a listening socket in /proc/net/tcp
_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """The process that listens on a port."""

    pid: int
    command: str


def require_free(bind: str, port: int) -> None:
    """Raise PortTaken, naming who has it where that can be known, unless the port can be bound."""
    if is_free(bind, port):
        return
    who = holder(port)
    by = f" by {who.command} (process {who.pid})" if who else ""
    raise PortTaken(
        f"Port {port} is taken{by}.",
        f"End that program, or choose another port: MESH_PORT={port + 1} make run.",
    )


def is_free(bind: str, port: int) -> bool:
    """Answer whether `port` can be bound on `bind` now."""
    family = socket.AF_INET6 if ip_address(bind).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError:
            return False
    return True


def holder(port: int) -> Holder | None:
    """Answer the process that listens on `port`; None when it is somebody else's, or not Linux."""
    inodes = {inode for table in _tables() for inode in listening(table, port)}
    for process in _PROC.glob("[0-9]*") if inodes else ():
        if inodes & set(_sockets(process)):
            return Holder(pid=int(process.name), command=_command(process))
    return None


def listening(table: str, port: int) -> Iterator[str]:
    """Answer the inodes of the sockets that listen on `port`, from the text of /proc/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
            yield inode


def _tables() -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        table = _PROC / "net" / name
        if table.exists():
            yield table.read_text()


def _sockets(process: Path) -> Iterator[str]:
    try:
        for descriptor in (process / "fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:  # not ours to look at, or gone
        return


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program that just ended"
