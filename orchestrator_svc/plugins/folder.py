"""The folder of plugins, watched: what comes, changes and goes there is so for the next turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from chassis import telemetry
from chassis.tasks import Tasks
from orchestrator_svc.plugins.cell import Code, PluginBroken
from orchestrator_svc.plugins.manifest import ManifestBroken, manifest
from orchestrator_svc.plugins.plugin import Plugin, broken
from orchestrator_svc.sandbox.cell import NoSandbox, Sandbox
from orchestrator_svc.tools.tool import Lack, Origin, Tool

log = telemetry.logger(__name__)

_MOST = 100
_AT_ONCE = 4
_MOMENT = 2.0  # seconds
_DEEPEST = 1_000  # files of one plugin that are looked at

Signature: TypeAlias = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A plugin as it was when its files had this signature: its actions, or why it has none."""

    signature: Signature
    tools: tuple[Tool[Any], ...] = ()
    trouble: str = ""
    lack: Lack = Lack.FAILED


class PluginFolder:
    """Loads what stands in a folder. One plugin that is broken, or slow, stops no other."""

    def __init__(self, folder: Path, sandbox: Sandbox | NoSandbox, tasks: Tasks) -> None:
        self._folder = folder
        self._sandbox = sandbox
        self._tasks = tasks
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._loaded: dict[Path, Loaded] = {}
        self._loading: dict[Path, tuple[Signature, asyncio.Task[Loaded]]] = {}

    async def changed(self) -> bool:
        """Look at the folder, and load what changed since the last look. Whether anything is otherwise now.

        What takes longer than a moment is there at a later look.
        """
        now = {path: signature(path) for path in _plugins(self._folder)}
        gone = [path for path in self._loaded if path not in now]
        for path in gone:
            del self._loaded[path]
        for path, mark in now.items():
            self._follow(path, mark)
        for path in [path for path in self._loading if path not in now]:
            self._loading.pop(path)[1].cancel()
        if self._loading:
            await asyncio.wait([task for _, task in self._loading.values()], timeout=_MOMENT)
        done = [path for path, (_, task) in self._loading.items() if task.done()]
        for path in done:
            self._loaded[path] = self._loading.pop(path)[1].result()
        return bool(gone or done)

    def _follow(self, path: Path, mark: Signature) -> None:
        loading, loaded = self._loading.get(path), self._loaded.get(path)
        if loading and loading[0] != mark:
            loading[1].cancel()
        elif loading or (loaded and loaded.signature == mark):
            return
        self._loading[path] = (mark, self._tasks.spawn("plugin", self._load(path, mark)))

    def tools(self, taken: Collection[str]) -> Sequence[Tool[Any]]:
        """Every action, and an entry for each plugin that is broken. None of them has a name of `taken`; of two
        plugins with an action of one name the first one in the order of the alphabet keeps it.
        """
        names = set(taken)
        found: list[Tool[Any]] = []
        for path, loaded in sorted(self._loaded.items()):
            clash = next((tool.name for tool in loaded.tools if tool.name in names), None)
            if clash is not None or loaded.trouble:
                trouble = loaded.trouble or f"There is another action called {clash}."
                lack = loaded.lack
                found.append(broken(path.name, path.stem, trouble, lack=lack, origin=Origin.PLUGIN))
                continue
            names |= {tool.name for tool in loaded.tools}
            found += loaded.tools
        return found

    async def _load(self, path: Path, signature: Signature) -> Loaded:
        try:
            if isinstance(self._sandbox, NoSandbox):
                trouble = f"Plugins are off: {self._sandbox}."
                return Loaded(signature=signature, trouble=trouble, lack=Lack.NOT_CONFIGURED)
            asked = manifest(path)
            if asked.hosts and not self._sandbox.confines:
                log.warning("a plugin without a sandbox reaches every host", plugin=path.stem)
            code = Code(path=path, files=tuple(map(Path, asked.files)), hosts=asked.hosts)
            plugin = Plugin(name=path.stem, code=code, manifest=asked, sandbox=self._sandbox)
            async with self._at_once:
                loaded = Loaded(signature=signature, tools=await plugin.tools())
        except (PluginBroken, ManifestBroken) as error:
            log.warning("plugin is broken", plugin=path.stem)
            return Loaded(signature=signature, trouble=str(error))
        log.info("plugin loaded", plugin=path.stem, actions=len(loaded.tools))
        return loaded


def _plugins(folder: Path) -> Sequence[Path]:
    """Modules and packages of the folder, in the order of their names."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return ()
    return [path for path in found if path.name[0] not in "._" and _is_plugin(path)][:_MOST]


def _is_plugin(path: Path) -> bool:
    return (path.suffix == ".py" and path.is_file()) or (path / "__init__.py").is_file()


def signature(path: Path) -> Signature:
    """What tells one state of a plugin's files from another: their paths, times (ns) and sizes (bytes)."""
    files = [path.with_suffix(".toml"), *(_below(path)[:_DEEPEST] if path.is_dir() else [path])]
    return tuple(mark for each in files if (mark := _mark(each)))


def _below(folder: Path) -> list[Path]:
    """What lies in the folder, sorted; a glob would raise where somebody removes a part of it meanwhile."""
    return sorted(Path(above, name) for above, *inside in os.walk(folder) for name in chain(*inside))


def _mark(file: Path) -> tuple[str, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (str(file), found.st_mtime_ns, found.st_size)
