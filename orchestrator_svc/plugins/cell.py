"""One call of a plugin: a fresh process in its cell, the frames that go in and out, and what they mean."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import certifi
import msgspec

from orchestrator_svc.egress.proxy import proxy
from orchestrator_svc.errors import Reason
from orchestrator_svc.plugins.inside.way_out import PORT
from orchestrator_svc.sandbox.cell import Cell, Sandbox, interpreter
from orchestrator_svc.tools.tool import RESULT_BYTES, ToolFailure

LIMITS: Mapping[str, int] = {
    "CPU": 10,
    "AS": 512 * 1024 * 1024,
    "NPROC": 32,
    "NOFILE": 64,
    "FSIZE": 16 * 1024 * 1024,
    "CORE": 0,
}
WALL_SECONDS = 30.0
START_SECONDS = 15.0
_INSIDE = Path(__file__).parent / "inside"
_HOST, _PLUGIN = "/host", "/plugin"
_PROXY = f"http://127.0.0.1:{PORT}"
_OUT, _CERTIFICATES = "/out", "/certificates.pem"
_VARIABLES = {"LANG": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108 - the cell's own
_FRAME_BYTES = RESULT_BYTES + 64 * 1024
_FRAMES = 1_000
_LENGTH = struct.Struct(">I")
_FIRST = """import json, sys
sys.path.insert(0, sys.argv[1])
from {0}.__main__ import main
main(sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])"""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """An action as the plugin describes it. What is None the room chooses."""

    name: str
    description: str
    schema: dict[str, Any]
    effect: str | None = None
    timeout: float | None = None
    consents: list[str] = []
    context: list[str] = []


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The plugin is loaded."""

    actions: list[Described]


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """The plugin cannot be loaded."""

    message: str


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """The call has something to show."""

    message: str
    fraction: float | None = None


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The call is answered. Values, actions and tasks are JSON as text."""

    content: str
    sources: list[dict[str, str]] = []
    context_updates: dict[str, str] = {}
    next_actions: list[str] = []
    background_tasks: list[str] = []


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The call failed."""

    message: str
    field: str = ""
    retryable: bool = False


Frame: TypeAlias = Ready | Broken | Progress | Done | Failed
_DECODER = msgspec.json.Decoder(Frame)


class PluginBroken(Exception):
    """The plugin cannot be used. `str()` of it says why, for a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What a plugin is asked."""

    action: str
    parameters: dict[str, Any]
    context: Mapping[str, Any] = field(default_factory=dict)
    now: float = 0.0
    language: str = ""
    time_zone: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A plugin's file (a module, or the folder of a package), and what else its cell shows."""

    path: Path
    files: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()


class Plug:
    """A running plugin, loaded and ready for one call."""

    def __init__(self, program: asyncio.subprocess.Process) -> None:
        self._program = program
        self._frames = 0
        self.actions: list[Described] = []

    async def loaded(self) -> None:
        """Wait until it is. Raises PluginBroken."""
        try:
            async with asyncio.timeout(START_SECONDS):
                frame = await self._hear()
        except TimeoutError as error:
            raise PluginBroken(f"it did not load in {START_SECONDS:.0f} seconds") from error
        except ToolFailure as error:
            raise PluginBroken(error.message) from error
        match frame:
            case Ready(actions=actions):
                self.actions = actions
            case Broken(message=message):
                raise PluginBroken(message)
            case _:
                raise PluginBroken("it answers what cannot be read")

    async def perform(self, call: Call, progress: Callable[[str, float | None], None]) -> Done:
        """Make the call. Raises ToolFailure. The plugin is of no use afterwards."""
        await self._tell(call)
        while True:
            match await self._hear():
                case Progress(message=message, fraction=fraction):
                    progress(message, fraction)
                case Done() as done:
                    return done
                case Failed() as failed:
                    raise ToolFailure(failed.message, field=failed.field, retryable=failed.retryable)
                case _:
                    raise _garbage()

    async def _tell(self, call: Call) -> None:
        body = msgspec.json.encode(call)
        assert self._program.stdin is not None
        try:
            self._program.stdin.write(_LENGTH.pack(len(body)) + body)
            await self._program.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise await self._ended() from error

    async def _hear(self) -> Frame:
        assert self._program.stdout is not None
        self._frames += 1
        if self._frames > _FRAMES:
            raise _too_large()
        try:
            (size,) = _LENGTH.unpack(await self._program.stdout.readexactly(_LENGTH.size))
            if size > _FRAME_BYTES:
                raise _too_large()
            frame: Frame = _DECODER.decode(await self._program.stdout.readexactly(size))
        except asyncio.IncompleteReadError as error:
            raise await self._ended() from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise _garbage() from error
        return frame

    async def _ended(self) -> ToolFailure:
        """Why it ended without an answer. It hung up, so it ends by itself or is ended."""
        try:
            async with asyncio.timeout(1):
                code = await self._program.wait()
        except TimeoutError:
            return ToolFailure("The plugin hung up without an answer.")
        match code % 128 if code > 128 else -code:
            case 9 | 24:  # SIGKILL, SIGXCPU
                return ToolFailure(
                    f"The plugin used more than {LIMITS['CPU']} seconds of computing, or was killed."
                )
            case 6 | 11:  # SIGABRT, SIGSEGV
                return ToolFailure("The plugin crashed; it may have used more memory than it may.")
            case _:
                return ToolFailure("The plugin ended without an answer.")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    """What a cell needs to reach hosts."""

    shown: Mapping[Path, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def _way_out(hosts: Collection[str]) -> AsyncIterator[_Way]:
    if not hosts:
        yield _Way()
        return
    certificates = Path(certifi.where())
    async with proxy(hosts) as place:
        yield _Way(
            shown={place: _OUT, certificates: _CERTIFICATES},
            environment={"HTTPS_PROXY": _PROXY, "https_proxy": _PROXY, "SSL_CERT_FILE": _CERTIFICATES},
        )


@asynccontextmanager
async def plugged(sandbox: Sandbox, code: Code) -> AsyncIterator[Plug]:
    """The plugin, loaded in a process of its own that is killed at the end of the block. Raises PluginBroken."""
    confined = sandbox.confines
    host = f"{_HOST}/mesh_plugin" if confined else str(_INSIDE)
    place = f"{_PLUGIN}/{code.path.name}" if confined else str(code.path)
    shown = {_INSIDE: host, code.path: place, **{each: str(each) for each in code.files}}
    file = f"{place}/__init__.py" if code.path.is_dir() else place
    module = "mesh_plugin" if confined else "inside"
    command = (
        *(interpreter(), "-I", "-S", "-B", "-c", _FIRST.format(module)),
        *(str(Path(host).parent), file, json.dumps(LIMITS), _OUT if code.hosts and confined else ""),
    )
    try:
        async with _way_out(code.hosts if confined else ()) as way:
            cell = Cell(shown={**shown, **way.shown}, environment={**_VARIABLES, **way.environment})
            async with sandbox.run(command, cell) as program:
                plug = Plug(program)
                await plug.loaded()
                yield plug
    except OSError as error:
        raise PluginBroken(f"its process cannot be started ({error.strerror})") from error


def _garbage() -> ToolFailure:
    return ToolFailure("The plugin answers what cannot be read.", reason=Reason.PROVIDER_GARBAGE)


def _too_large() -> ToolFailure:
    return ToolFailure(
        f"The plugin answers more than {RESULT_BYTES // 1024} KiB.", reason=Reason.RESULT_TOO_LARGE
    )
