"""Logs: static text and key/values, one line each, as JSON or for the eye. No user content, no secrets.

A value whose key names a secret is replaced, and credentials inside an exception's text are cut out, so that
a careless line cannot leak one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TextIO

Format = Literal["json", "text"]

_SECRET_KEY = re.compile(r"token|password|secret|authorization|api_?key|cookie|credential", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"(?P<url>://)[^/\s@]+@"  # credentials of a URL
    r"|(?P<bearer>bearer\s+)\S+"
    r"|(?P<jwt>eyJ)[\w-]+\.[\w-]+\.[\w-]*"
    r"|(?P<detail>\bDETAIL:\s).*",  # PostgreSQL repeats the row's values here
    re.IGNORECASE,
)
_HIDDEN = "[redacted]"
_PLAIN = re.compile(r"[^\s\"=]+")
_QUIET = (
    "aiosqlite",
    "asyncio",
    "grpc",
    "httpx",
    "httpcore",
    "httpx2",
    "httpcore2",
    "mcp",
)  # at DEBUG these print arguments and headers


def redact(fields: Mapping[str, object]) -> dict[str, object]:
    """The same fields; the value of each key that names a secret is hidden."""
    return {key: _HIDDEN if _names_a_secret(key) else value for key, value in fields.items()}


@lru_cache(maxsize=1024)
def _names_a_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def scrub(text: str) -> str:
    """The same text without credentials of URLs, bearer tokens, JWTs and database row values."""
    return _SECRET_TEXT.sub(lambda found: f"{found.group(found.lastgroup or 0)}{_HIDDEN}", text)


class Logger:
    """A named logger whose messages are constant and whose facts are keyword arguments."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, **fields: object) -> None:
        """For a developer's eye only."""
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """Something that normally happens."""
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Something an operator may want to look at; service goes on."""
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, *, error: BaseException | None = None, **fields: object) -> None:
        """A fault; `error` adds its scrubbed traceback."""
        self._write(logging.ERROR, message, fields, error)

    def _write(
        self, level: int, message: str, fields: Mapping[str, object], error: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, exc_info=error, extra={"fields": redact(fields)})


def logger(name: str) -> Logger:
    """The logger of a module: ``log = telemetry.logger(__name__)``."""
    return Logger(name)


def configure(room: str, level: str = "INFO", fmt: Format = "text", stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stderr by default) in one format."""
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(_Json(room) if fmt == "json" else _Text(room))
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    """What both formats share: the fields of a record and its scrubbed traceback."""

    def __init__(self, room: str) -> None:
        super().__init__()
        self._room = room

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        fields: dict[str, object] = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = scrub("".join(traceback.format_exception(record.exc_info[1])))
        return fields

    def moment(self, record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Json(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.moment(record),
            "level": record.levelname,
            "room": self._room,
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        return json.dumps(line | self.fields(record), default=str, ensure_ascii=False)


class _Text(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        trace = fields.pop("traceback", None)
        facts = " ".join(f"{key}={_one_line(value)}" for key, value in fields.items() if value != "")
        moment, message = self.moment(record)[11:23], scrub(record.getMessage())
        head = f"{moment} {record.levelname:<7} {self._room:<16} {message}"
        return "\n".join(part for part in (f"{head} {facts}".rstrip(), trace) if isinstance(part, str))


def _one_line(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
