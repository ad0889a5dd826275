"""Reading an archive that somebody sent: bounded in every direction, in the order in which it was written.

The records of a session stand together, in the order of `sessions.jsonl` and of their sequences. What breaks a rule of
docs/export-format.md raises ArchiveInvalid; nothing is taken on trust.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Generic, Protocol, TypeVar

from context_svc.account_archive import BLOBS, CHUNK, FORMAT, MANIFEST, VERSION
from context_svc.errors import ArchiveInvalid
from context_svc.items import MOST_BYTES, MOST_ITEMS, Item
from context_svc.reminder_rows import Reminder
from context_svc.session_rows import Session
from context_svc.suggestions import Suggestion

MOST_ENTRIES = 200_000
MOST_LINE = 3 * 1024 * 1024
MOST_SESSIONS = 10_000
MOST_UNPACKED = 64 * 1024**3  # of everything unpacked
KINDS = (
    "account",
    "devices",
    "api_tokens",
    "preferences",
    "accepted_preferences",
    "suggestions",
    "reminders",
    "sessions",
    "context_items",
    "messages",
    "events",
    "turns",
    "media",
)
_BLOB = re.compile(rf"{BLOBS}[0-9a-f]{{64}}")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivingDevice:
    """A device as it was known elsewhere. Times are microseconds since 1970."""

    id: str
    name: str
    platform: int
    app_version: str
    create_us: int
    last_use_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivingMessage:
    """A message; `media` are the ids of the files that it names."""

    session_id: str
    id: str
    turn_id: str
    parent_id: str
    role: int
    sequence: int
    create_us: int
    data: bytes
    media: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What a turn was accepted for: a message, or `action` (a serialised ToolCallPart).

    `alternative`: it repeats a turn, its answer stands beside the first.
    """

    message_id: str
    options: bytes
    action: bytes | None
    alternative: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivingEvent:
    """An event, with what the rows of its turn are made of.

    `opens`: what a turn that it accepted is for; `answer_id`: of a turn that it started;
    `reason`: why the turn that it ended failed.
    """

    session_id: str
    sequence: int
    turn_id: str
    kind: int
    create_us: int
    data: bytes
    opens: Opening | None
    answer_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivingTurn:
    """How a turn ended, and its receipt."""

    id: str
    state: int
    receipt: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivingFile:
    """A file: what is known of it (serialised for media_svc), and the digest of its bytes."""

    id: str
    sha256: str
    size: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Preferences, serialised, and how long they keep positions: 0 for ever, None when they do not say."""

    data: bytes
    location_keep_us: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A session with everything in it."""

    session: Session
    items: Sequence[Item]
    messages: Sequence[ArrivingMessage]
    events: Sequence[ArrivingEvent]
    turns: Mapping[str, ArrivingTurn]


class RecordCodec(Protocol):
    """Reads the records of an archive. Every method raises ArchiveInvalid for what is none."""

    def read_device(self, line: bytes) -> ArrivingDevice:
        """A device."""

    def read_layer(self, line: bytes) -> Layer:
        """Preferences."""

    def read_reminder(self, line: bytes) -> Reminder:
        """A line of a reminder."""

    def read_suggestion(self, line: bytes) -> Suggestion:
        """A suggestion."""

    def read_session(self, line: bytes) -> Session:
        """A session; its account is empty."""

    def read_item(self, line: bytes) -> Item:
        """A context item."""

    def read_message(self, line: bytes) -> ArrivingMessage:
        """A message."""

    def read_event(self, line: bytes) -> ArrivingEvent:
        """An event."""

    def read_turn(self, line: bytes) -> ArrivingTurn:
        """A turn."""

    def read_file(self, line: bytes) -> ArrivingFile:
        """A file."""


class Unpacked:
    """An archive whose form was checked. Its methods block: call them in a thread."""

    def __init__(self, file: BinaryIO, codec: RecordCodec) -> None:
        self._codec = codec
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ArchiveInvalid("no ZIP file") from error
        self._entries = _checked(self._zip.infolist())
        self._check_manifest()

    @property
    def with_blobs(self) -> bool:
        """Whether it holds the bytes of files."""
        return any(name.startswith(BLOBS) for name in self._entries)

    def check(self) -> Sequence[str]:
        """Read every record once; the ids of the sessions."""
        files = {each.sha256 for each in self.files()}
        if self.with_blobs and any(f"{BLOBS}{each}" not in self._entries for each in files):
            raise ArchiveInvalid("a file without its bytes")
        self.devices()
        self.layers()
        self.suggestions()
        self.user_items()
        return [bundle.session.id for bundle in self.bundles()]

    def devices(self) -> Sequence[ArrivingDevice]:
        """The devices."""
        return _few(self._records("devices", self._codec.read_device), 10_000)

    def layers(self) -> tuple[Layer | None, Layer | None]:
        """The person's own preferences, and those accepted from suggestions."""
        own, accepted = (
            _few(self._records(kind, self._codec.read_layer), 1)
            for kind in ("preferences", "accepted_preferences")
        )
        return next(iter(own), None), next(iter(accepted), None)

    def suggestions(self) -> Sequence[Suggestion]:
        """What was proposed to the person."""
        return _few(self._records("suggestions", self._codec.read_suggestion), 10_000)

    def reminders(self) -> Sequence[Reminder]:
        """What the person wanted to be reminded of."""
        return _few(self._records("reminders", self._codec.read_reminder), 10_000)

    def user_items(self) -> Sequence[Item]:
        """The context of the person, which comes before that of the sessions."""
        items = _Groups(self._records("context_items", self._codec.read_item), _session_of).take("")
        _check_scope(items)
        return items

    def files(self) -> Iterator[ArrivingFile]:
        """The files."""
        return self._records("media", self._codec.read_file)

    def blob(self, sha256: str) -> Iterator[bytes]:
        """The bytes of a file, in chunks."""
        with _read_safely(), self._zip.open(f"{BLOBS}{sha256}") as entry:
            while chunk := entry.read(CHUNK):
                yield chunk

    def bundles(self) -> Iterator[Bundle]:
        """The sessions, one after the other."""
        codec = self._codec
        turns = {each.id: each for each in self._records("turns", codec.read_turn)}
        items = _Groups(self._records("context_items", codec.read_item), _session_of)
        messages = _Groups(self._records("messages", codec.read_message), _session_of)
        events = _Groups(self._records("events", codec.read_event), _session_of)
        items.take("")
        seen: set[str] = set()
        for session in self._records("sessions", codec.read_session):
            if session.id in seen or len(seen) >= MOST_SESSIONS:
                raise ArchiveInvalid("too many sessions, or one twice")
            seen.add(session.id)
            log = events.take(session.id)
            said = messages.take(session.id)
            _check_order(session, [each.sequence for each in log])
            _check_order(session, [2 * each.sequence + (each.role > 1) for each in said], scale=2)
            known = items.take(session.id)
            _check_scope(known)
            yield Bundle(
                session=session,
                items=known,
                messages=said,
                events=log,
                turns={each.turn_id: turns[each.turn_id] for each in log if each.turn_id in turns},
            )
        for rest in (items, messages, events):
            rest.check_end()

    def _records(self, kind: str, read: Callable[[bytes], T]) -> Iterator[T]:
        name = f"{kind}.jsonl"
        if name not in self._entries:
            return
        with _read_safely(), self._zip.open(name) as entry:
            while line := entry.readline(MOST_LINE + 1):
                if len(line) > MOST_LINE:
                    raise ArchiveInvalid("a record that is too long")
                yield read(line)

    def _check_manifest(self) -> None:
        with _read_safely(), self._zip.open(MANIFEST) as entry:
            try:
                told = json.loads(entry.read(MOST_LINE))
            except (ValueError, RecursionError) as error:
                raise ArchiveInvalid("an unreadable manifest") from error
        if not isinstance(told, dict) or (told.get("format"), told.get("version")) != (FORMAT, VERSION):
            raise ArchiveInvalid("another format, or another version of it")


@contextmanager
def _read_safely() -> Iterator[None]:
    """Turn what a broken ZIP raises while it is read into ArchiveInvalid."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError) as error:
        raise ArchiveInvalid(f"a broken entry: {type(error).__name__}") from error


class _Groups(Generic[R]):
    """Records that stand together by session, taken in that order."""

    def __init__(self, records: Iterator[R], session_of: Callable[[R], str]) -> None:
        self._records = records
        self._session_of = session_of
        self._next = next(records, None)

    def take(self, session_id: str) -> list[R]:
        """The records of the next session; none when it has none."""
        found: list[R] = []
        while self._next is not None and self._session_of(self._next) == session_id:
            found.append(self._next)
            self._next = next(self._records, None)
        return found

    def check_end(self) -> None:
        """Raises ArchiveInvalid when records are left: of a session that is not there, or out of order."""
        if self._next is not None:
            raise ArchiveInvalid("a record of no session, or out of order")


def _session_of(record: Item | ArrivingMessage | ArrivingEvent) -> str:
    return record.session_id


def _check_order(session: Session, sequences: Sequence[int], *, scale: int = 1) -> None:
    """Raises ArchiveInvalid unless they rise within the log; an answer may stand at the sequence of its message."""
    rising = all(one < other for one, other in pairwise(sequences))
    if not rising or (
        sequences and not scale <= sequences[0] <= sequences[-1] < scale * (session.last_sequence + 1)
    ):
        raise ArchiveInvalid("sequences that do not rise, or leave the log")


def _check_scope(items: Sequence[Item]) -> None:
    keys = {each.key for each in items}
    size = sum(each.size for each in items)
    if len(keys) != len(items) or len(items) > MOST_ITEMS or size > MOST_BYTES:
        raise ArchiveInvalid("more context than a scope takes, or a key twice")


def _few(records: Iterator[T], most: int) -> list[T]:
    found: list[T] = []
    for record in records:
        if len(found) >= most:
            raise ArchiveInvalid("more records of a kind than there can be")
        found.append(record)
    return found


def _checked(entries: Sequence[zipfile.ZipInfo]) -> frozenset[str]:
    names = frozenset(entry.filename for entry in entries)
    if len(names) != len(entries) or len(entries) > MOST_ENTRIES or MANIFEST not in names:
        raise ArchiveInvalid("entries twice, too many, or no manifest")
    for entry in entries:
        plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not entry.flag_bits & 1
        name = entry.filename
        if not plain or not (
            name == MANIFEST or name.removesuffix(".jsonl") in KINDS or _BLOB.fullmatch(name)
        ):
            raise ArchiveInvalid("an entry that does not belong there")
    if sum(entry.file_size for entry in entries) > MOST_UNPACKED:
        raise ArchiveInvalid("it unpacks to more than there can be")
    return names
