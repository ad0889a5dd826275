"""What this machine is: memory, disk, C library. Reads only what the operating system tells everybody."""

import os
import platform
import shutil
from pathlib import Path

from mesh.manifest import Machine

_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine(folder: Path) -> Machine:
    """Answer memory in all (of the machine, or of its container) and the free disk of `folder`."""
    return Machine(memory=memory(), disk=shutil.disk_usage(existing(folder)).free)


def memory() -> int:
    """Answer the bytes of memory that processes here can use."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _GROUP_LIMIT.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def existing(folder: Path) -> Path:
    """Answer the folder, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def glibc() -> tuple[int, int] | None:
    """Answer the version of the GNU C library, or None where there is another."""
    name, version = platform.libc_ver()
    if name != "glibc":
        return None
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
