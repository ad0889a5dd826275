"""The rooms' output: one readable stream on the screen, and a bounded file for each room."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from rich.console import Console
from rich.text import Text

from mesh.printable import printable

LONGEST_LINE = 64 * 1024  # bytes; what is longer is cut into lines of this size
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")


class LineSink(Protocol):
    """Takes whole lines of a named writer. Never raises for what a line holds."""

    def write(self, name: str, line: str) -> None:
        """Take one line, without its end."""


class Lines:
    """Cuts a stream of bytes into lines of text; a line never exceeds LONGEST_LINE bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes and answer the lines they complete."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        while len(rest) > LONGEST_LINE:
            whole.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._rest = rest
        return [_text(line) for line in whole]

    def end(self) -> list[str]:
        """Answer what is left after the last byte."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


class Screen:
    """Writes `name │ line`, a colour for each name when the console is a terminal, plain otherwise."""

    def __init__(self, console: Console, names: tuple[str, ...]) -> None:
        self._console = console
        width = max(map(len, names), default=0)
        self._prefixes = {
            name: self._rendered(f"{name:<{width}} │ ", _COLOURS[index % len(_COLOURS)])
            for index, name in enumerate(names)
        }

    def write(self, name: str, line: str) -> None:
        """Print one line; straight to the file, because there may be thousands each second."""
        prefix = self._prefixes.get(name) or f"{name} │ "
        self._console.file.write(f"{prefix}{line}\n")
        self._console.file.flush()

    def _rendered(self, text: str, style: str) -> str:
        with self._console.capture() as captured:
            self._console.print(Text(text, style), end="", soft_wrap=True)
        return captured.get()


class RotatingFile:
    """Appends lines to `path`; at `limit` bytes it becomes `path.1`, older ones move up, `keep` are kept."""

    def __init__(self, path: Path, *, limit: int, keep: int) -> None:
        self._path, self._limit, self._keep = path, limit, keep
        self._file = self._open()

    def append(self, line: str) -> None:
        """Write one line; it is in the operating system's hands when this returns."""
        data = line.encode("utf-8", "replace") + b"\n"
        if self._file.tell() and self._file.tell() + len(data) > self._limit:
            self._rotate()
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> BinaryIO:
        file = self._path.open("ab", buffering=0)
        self._path.chmod(0o600)
        return file

    def _rotate(self) -> None:
        self._file.close()
        for index in range(self._keep - 1, 0, -1):
            older = self._numbered(index)
            if older.exists():
                older.replace(self._numbered(index + 1))
        if self._keep:
            self._path.replace(self._numbered(1))
        else:
            self._path.unlink()
        self._file = self._open()

    def _numbered(self, index: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{index}")


class Files:
    """One rotating file for each name under `folder`."""

    def __init__(self, folder: Path, *, limit: int, keep: int) -> None:
        self._folder, self._limit, self._keep = folder, limit, keep
        self._files: dict[str, RotatingFile] = {}

    def write(self, name: str, line: str) -> None:
        """Append one line to `<folder>/<name>.log`."""
        if name not in self._files:
            path = self._folder / f"{name}.log"
            self._files[name] = RotatingFile(path, limit=self._limit, keep=self._keep)
        self._files[name].append(line)

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()


@dataclass(frozen=True, slots=True)
class Both:
    """Writes each line to several sinks."""

    sinks: tuple[LineSink, ...]

    def write(self, name: str, line: str) -> None:
        """Hand the line to every sink in turn."""
        for sink in self.sinks:
            sink.write(name, line)


def _text(line: bytes) -> str:
    return printable(line.decode("utf-8", "replace").rstrip("\r"))


@dataclass(frozen=True, slots=True)
class LastLines:
    """The last lines one room wrote, kept to be told when it dies."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=12))

    def add(self, line: str) -> None:
        """Keep this line and forget the oldest."""
        self.lines.append(line)

    def told(self) -> str:
        """Answer the lines, indented, one below the other; empty when the room wrote nothing."""
        return "".join(f"\n    {line}" for line in self.lines)
