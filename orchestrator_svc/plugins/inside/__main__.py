"""The first program of a plugin's cell: takes up its limits, loads the plugin, answers one call of the room.

Frames are JSON behind four bytes of length. The plugin's own standard output is led away from them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import resource
import struct
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from .actions import Performs, actions, performed
from .api import Answer, Call, Failure
from .way_out import open_way_out

_LENGTH = struct.Struct(">I")
_LONGEST_WORDS = 2_000


class Line:
    """The way to the room and back."""

    def __init__(self, heard: BinaryIO, told: BinaryIO) -> None:
        self._heard = heard
        self._told = told

    def hear(self) -> dict[str, Any] | None:
        """The next frame; None when the room has hung up."""
        head = self._heard.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        found = json.loads(self._heard.read(_LENGTH.unpack(head)[0]))
        assert isinstance(found, dict)
        return found

    def tell(self, frame: Mapping[str, Any]) -> None:
        """Send a frame."""
        body = json.dumps(frame, ensure_ascii=False, default=_plain).encode("utf-8", "replace")
        self._told.write(_LENGTH.pack(len(body)) + body)
        self._told.flush()


def main(file: str, limits: Mapping[str, int], way_out: str) -> None:
    """Load the plugin at `file` and answer one call. `way_out` is the socket of the proxy, if there is one."""
    line = _own_line()
    try:
        sys.modules.setdefault("mesh_plugin", sys.modules[__package__])
        for name, most in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
        if way_out:
            open_way_out(way_out)
        found = actions(_loaded(file))
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
        line.tell({"type": "broken", "message": _where(error, str(Path(file).parent))})
        return
    line.tell({"type": "ready", "actions": [dataclasses.asdict(each.described) for each in found.values()]})
    asked = line.hear()
    if asked is not None:
        line.tell(_outcome(found, asked, line))


def _outcome(found: Mapping[str, Performs], asked: Mapping[str, Any], line: Line) -> dict[str, Any]:
    def progress(message: str, fraction: float | None = None) -> None:
        line.tell({"type": "progress", "message": str(message)[:_LONGEST_WORDS], "fraction": fraction})

    call = Call(
        context=asked["context"],
        now=asked["now"],
        language=asked["language"],
        time_zone=asked["time_zone"],
        progress=progress,
    )
    try:
        answer = performed(found[asked["action"]], asked["parameters"], call)
        return {"type": "done", **_told(answer)}
    except Failure as error:
        words = error.message[:_LONGEST_WORDS]
        return {"type": "failed", "message": words, "field": error.field, "retryable": error.retryable}
    except MemoryError:
        return {"type": "failed", "message": "The plugin used more memory than it may."}
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
        return {"type": "failed", "message": f"The plugin broke: {_where(error, sys.path[0])}"}


def _told(answer: Answer) -> dict[str, Any]:
    content = answer.result if isinstance(answer.result, str) else json.dumps(answer.result, default=_plain)
    return {
        "content": content,
        "sources": list(answer.sources),
        "context_updates": {
            str(key): json.dumps(each, default=_plain) for key, each in answer.context_updates.items()
        },
        "next_actions": [json.dumps(each, default=_plain) for each in answer.next_actions],
        "background_tasks": [json.dumps(each, default=_plain) for each in answer.background_tasks],
    }


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def _own_line() -> Line:
    """Keep the two pipes to ourselves: what the plugin prints goes to the standard error, which nobody reads."""
    heard, told = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    return Line(os.fdopen(heard, "rb"), os.fdopen(told, "wb"))


def _loaded(file: str) -> ModuleType:
    path = Path(file)
    sys.path.insert(0, str(path.parent))
    name = path.parent.name if path.name == "__init__.py" else path.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _where(error: BaseException, folder: str) -> str:
    """The error in one line, with the last line of the plugin's own that it passed."""
    lines = [
        each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(folder)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else next(reversed(lines), None)
    at = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {str(error)[:_LONGEST_WORDS]}{at}"
