"""Run one command that cannot outlive its supervisor: `leash.py PARENT_PID COMMAND…`.

Started as a plain script by a bare interpreter (`-I -S`), so it imports nothing but the standard library.
Linux keeps the wish across exec: when the supervisor dies, even by SIGKILL, the kernel kills this process.
Elsewhere the command runs without that promise; an orderly stop ends it all the same.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def bind(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; exit when it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Bind to the parent named by the first argument and become the command that follows it."""
    parent, *command = sys.argv[1:]
    bind(int(parent))
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted: the command is ours


if __name__ == "__main__":
    main()
