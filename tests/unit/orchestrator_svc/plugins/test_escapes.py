"""What plugins try, and what stops them: one row for each attempt of `escapes.py`."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chassis.testing import SOON, eventually, socket_directory
from orchestrator_svc.errors import Reason
from orchestrator_svc.plugins import cell as plugin_cell
from orchestrator_svc.plugins.cell import Code
from orchestrator_svc.plugins.manifest import Manifest
from orchestrator_svc.plugins.plugin import Plugin, performing
from orchestrator_svc.sandbox.cell import Cell, Sandbox, find, interpreter
from orchestrator_svc.tools.tool import Output, Setting, Tool, ToolFailure

ATTEMPTS = Path(__file__).with_name("escapes.py")
NOT_PLAIN = {  # attempts that end otherwise than by an error inside, with the words that tell of it
    "writes_garbage_to_the_room": (Reason.PROVIDER_GARBAGE, "cannot be read"),
    "claims_a_frame_of_four_gigabytes": (Reason.RESULT_TOO_LARGE, "more than 256 KiB"),
    "answers_too_much": (Reason.RESULT_TOO_LARGE, "more than 256 KiB"),
    "answers_a_little_too_much": (Reason.RESULT_TOO_LARGE, "more than 256 KiB"),
    "goes_away": (Reason.ACTION_FAILED, "ended without an answer"),
    "crashes": (Reason.ACTION_FAILED, "crashed"),
    "takes_all_memory": (Reason.ACTION_FAILED, "more memory than it may"),
    "computes_for_ever": (Reason.ACTION_FAILED, "1 seconds of computing"),
}
HARMLESS_ANSWERS = {"alone", "not there", "nowhere", "empty"}
HARMLESS = (  # what can be tried without walls too, and then succeeds
    "reads_passwords",
    "reads_a_key",
    "reads_another_plugin",
    "follows_a_link",
    "reads_the_rooms_environment",
    "lists_processes",
    "connects_to_loopback",
    "connects_to_the_socket_of_a_room",
    "connects_to_an_abstract_socket",
    "forks",
    "starts_a_program",
    "takes_memory_that_nobody_counts",
    "lets_itself_be_traced",
    "imports_the_room",
    "signals_the_room",
    "signals_everybody",
)


def attempts() -> list[str]:
    tree = ast.parse(ATTEMPTS.read_text())
    marked = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.decorator_list]
    return [each.name for each in marked if each.name != "never_returns"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    plugins = data / "plugins"
    plugins.mkdir()
    (plugins / "escapes.py").write_text(ATTEMPTS.read_text())
    (plugins / "other.py").write_text("SECRET = 1")
    (data / "orchestrator.key").write_text("a key")
    return plugins


@pytest.fixture
async def outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mapping[str, Any]]:
    """What stands around the cell, all of it within reach of an ordinary process."""
    monkeypatch.setenv("ORCHESTRATOR_SEARCH_KEY", "a secret")
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    with (
        socket_directory() as place,
        listening() as port,
        bound(str(place / "room.sock")) as room,
        bound(f"\0mesh-test-{os.getpid()}"),
    ):
        yield {
            "key": str(folder.parent / "orchestrator.key"),
            "secret": "ORCHESTRATOR_SEARCH_KEY",
            "room": os.getpid(),
            "port": port,
            "socket": room,
            "abstract": f"mesh-test-{os.getpid()}",
            "victim": victim.pid,
            "path": [each for each in sys.path if each] + [str(Path.cwd())],
        }
    if victim.returncode is None:
        victim.kill()
    await victim.wait()


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def bound(name: str) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        yield name


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return asyncio.run(find(os.environ["PATH"], accept_none=False))


async def tool(folder: Path, sandbox: Sandbox, name: str) -> Tool[Any]:
    """One attempt. What the plugin says of itself is asked once."""
    code = Code(path=folder / "escapes.py")
    plugin = Plugin(name="escapes", code=code, manifest=Manifest(), sandbox=sandbox)
    if folder not in _TOLD:
        _TOLD[folder] = {each.name: each for each in await plugin.tools()}
    return replace(_TOLD[folder][name], perform=performing(plugin, name))


_TOLD: dict[Path, dict[str, Tool[Any]]] = {}


async def outcome(found: Tool[Any], outside: Mapping[str, Any]) -> Output | ToolFailure:
    try:
        async with asyncio.timeout(4 * SOON.total_seconds()):
            return await found.run(json.dumps({"outside": outside}), Setting(now_us=1))
    except ToolFailure as failure:
        return failure


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6")
@pytest.mark.parametrize("name", attempts())
async def test_an_attempt_to_get_out_is_contained(
    name: str, folder: Path, sandbox: Sandbox, outside: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {**plugin_cell.LIMITS, **({"CPU": 1} if name == "computes_for_ever" else {})}
    monkeypatch.setattr(plugin_cell, "LIMITS", limits)
    before = (folder / "escapes.py").read_bytes()
    answer = await outcome(await tool(folder, sandbox, name), outside)
    if isinstance(answer, Output):
        assert answer.content in HARMLESS_ANSWERS
    else:
        reason, words = NOT_PLAIN.get(name, (Reason.ACTION_FAILED, "The plugin broke: "))
        assert (answer.reason, words in answer.message) == (reason, True), answer.message
    assert (folder / "escapes.py").read_bytes() == before


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6")
@pytest.mark.parametrize("name", HARMLESS)
async def test_without_walls_the_same_attempt_gets_out(
    name: str, folder: Path, outside: Mapping[str, Any]
) -> None:
    answer = await outcome(await tool(folder, Sandbox(bwrap=None), name), outside)
    assert isinstance(answer, Output), answer.message
    assert answer.content == "ESCAPED"


class Weak(Sandbox):
    """A sandbox whose walls somebody changed."""

    def __init__(self, whole: Sandbox, change: Callable[[Sequence[str]], Sequence[str]]) -> None:
        object.__setattr__(self, "bwrap", whole.bwrap)
        object.__setattr__(self, "change", change)

    @contextmanager
    def words(self, command: Sequence[str], cell: Cell) -> Iterator[tuple[Sequence[str], Sequence[int]]]:
        with super().words(command, cell) as (words, descriptors):
            yield self.change(words), descriptors  # type: ignore[attr-defined]


def without(*gone: str) -> Callable[[Sequence[str]], Sequence[str]]:
    """Leave out some words that stand one behind the other."""

    def change(words: Sequence[str]) -> Sequence[str]:
        found = list(words)
        at = next(n for n in range(len(found)) if tuple(found[n : n + len(gone)]) == gone)
        return found[:at] + found[at + len(gone) :]

    return change


def with_(*more: str) -> Callable[[Sequence[str]], Sequence[str]]:
    """Put words behind the others, before the command."""

    def change(words: Sequence[str]) -> Sequence[str]:
        at = list(words).index("--")
        return [*words[:at], *more, *words[at:]]

    return change


def without_seccomp(words: Sequence[str]) -> Sequence[str]:
    at = list(words).index("--seccomp")
    return [*words[:at], *words[at + 2 :]]


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6")
@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param(with_("--share-net"), "connects_to_loopback", id="no network of its own"),
        pytest.param(with_("--share-net"), "connects_to_an_abstract_socket", id="abstract sockets"),
        pytest.param(without_seccomp, "forks", id="no filter: processes"),
        pytest.param(without_seccomp, "lets_itself_be_traced", id="no filter: tracing"),
        pytest.param(without_seccomp, "takes_memory_that_nobody_counts", id="no filter: memory"),
        pytest.param(with_("--ro-bind", "/etc", "/etc"), "reads_passwords", id="more to see"),
        pytest.param(without("--remount-ro", "/"), "writes_anywhere", id="a root to write"),
        pytest.param(without("--remount-ro", "/dev"), "fills_shared_memory", id="shared memory"),
        pytest.param(without("--size", str(16 * 1024 * 1024)), "fills_the_disk", id="a boundless folder"),
    ],
)
async def test_each_wall_holds_something_up(
    change: Callable[[Sequence[str]], Sequence[str]],
    name: str,
    folder: Path,
    sandbox: Sandbox,
    outside: Mapping[str, Any],
) -> None:
    weak = Weak(sandbox, change)
    answer = await outcome(await tool(folder, weak, name), outside)
    assert isinstance(answer, Output), answer.message
    assert answer.content == "ESCAPED"


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6", "AGT-6")
async def test_a_plugin_that_never_returns_is_gone_once_it_is_cancelled(
    folder: Path, sandbox: Sandbox, outside: Mapping[str, Any]
) -> None:
    found = await tool(folder, sandbox, "never_returns")
    calling = asyncio.ensure_future(outcome(found, outside))
    await eventually(lambda: bool(_running(folder)))
    calling.cancel()
    async with asyncio.timeout(SOON.total_seconds()):
        await asyncio.wait((calling,))
    assert calling.cancelled()
    await eventually(lambda: not _running(folder))


@pytest.mark.slow
@pytest.mark.requirement("TOOL-6", "AGT-6")
async def test_one_cancelled_at_any_moment_of_its_start_leaves_no_process(
    folder: Path, sandbox: Sandbox
) -> None:
    cell = Cell(shown={folder: "/plugin"})
    sleeping = (interpreter(), "-I", "-S", "-c", "import time; time.sleep(600)")

    async def started() -> None:
        async with sandbox.run(sleeping, cell) as program:
            await program.wait()

    for moment in range(100):
        starting = asyncio.ensure_future(started())
        await asyncio.sleep(moment * 0.0003)  # over the whole time that it takes to start
        starting.cancel()
        async with asyncio.timeout(SOON.total_seconds()):
            await asyncio.wait((starting,))
        assert starting.cancelled()
    await eventually(lambda: not _running(folder))


def _running(folder: Path) -> list[int]:
    """Processes whose command line names this test's folder."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                if str(folder).encode() in (each / "cmdline").read_bytes():
                    found.append(int(each.name))
            except OSError:
                continue
    return found
