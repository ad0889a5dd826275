"""What a file is, found in its bytes alone. Reads little, decodes nothing, trusts no number in the file."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

_HEAD = 64 * 1024
_STEP = 1024 * 1024
_INDEX_LIMIT = 4 * 1024 * 1024  # the most that is read of an index inside a file (MP4 moov, ZIP directory)


class Kind(Enum):
    """The three kinds of files; the value is what the store says."""

    IMAGE = "IMAGE"
    AUDIO = "AUDIO"
    DOCUMENT = "DOCUMENT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a file is."""

    kind: Kind
    mime_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How many bytes a file of each kind may have."""

    image: int
    audio: int
    document: int

    @property
    def largest(self) -> int:
        """The most that any file may have."""
        return max(self.image, self.audio, self.document)

    def of(self, kind: Kind) -> int:
        """The most that one of this kind may have."""
        return {Kind.IMAGE: self.image, Kind.AUDIO: self.audio, Kind.DOCUMENT: self.document}[kind]


# The third byte of an MPEG frame: bit rates 1 to 14 in the upper half, sample rate 0 to 2 in bits 3 and 2.
_MPEG_RATES = b"".join(rb"\x%02x" % byte for byte in range(0x10, 0xF0) if byte >> 2 & 3 != 3)
_BEGINNINGS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), mime_type)
    for pattern, mime_type in (
        (rb"\xff\xd8\xff[\xc0-\xfe]", "image/jpeg"),
        (rb"\x89PNG\r\n\x1a\n....IHDR", "image/png"),
        (rb"RIFF....WEBPVP8[ LX]", "image/webp"),
        (rb"GIF8[79]a", "image/gif"),
        (rb"RIFF....WAVE", "audio/wav"),
        (rb"fLaC\x00", "audio/flac"),
        (rb"ID3[\x02-\x04]", "audio/mpeg"),
        (rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][" + _MPEG_RATES + rb"]", "audio/mpeg"),
        (rb"\xff[\xf0\xf1\xf8\xf9]", "audio/aac"),
        (rb"OggS\x00\x02.{21}.{1,255}?(?:OpusHead|\x01vorbis|\x7fFLAC)", "audio/ogg"),
        (rb"%PDF-[12]\.\d", "application/pdf"),
    )
)
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_AVIF = frozenset({b"avif", b"avis"})
_OFFICE: Mapping[str, str] = {
    "word/document.xml": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "ppt/presentation.xml": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xl/workbook.xml": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_CONTENT_TYPES = "[Content_Types].xml"
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,4096}?-->\s*){0,8}<(?:!doctype\s+html|html)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_LOOK_ALIKES = frozenset({"text/plain", "text/markdown", "text/csv"})


def identify(file: BinaryIO, size: int, hint: str = "") -> Found | None:
    """What the file is, or None when it is nothing we take.

    `hint` chooses among text types that look alike; it decides nothing else.
    """
    file.seek(0)
    head = file.read(_HEAD)
    mime_type = _by_beginning(head) or _by_container(file, size, head) or _by_text(file, head, hint)
    return None if mime_type is None else Found(kind=_kind(mime_type), mime_type=mime_type)


def _kind(mime_type: str) -> Kind:
    family = mime_type.partition("/")[0]
    return {"image": Kind.IMAGE, "audio": Kind.AUDIO}.get(family, Kind.DOCUMENT)


def _by_beginning(head: bytes) -> str | None:
    return next((mime_type for pattern, mime_type in _BEGINNINGS if pattern.match(head)), None)


def _by_container(file: BinaryIO, size: int, head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return _by_brands(file, size, head)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _by_codecs(head)
    if head.startswith(b"PK\x03\x04"):
        return _by_members(frozenset(_members(file, size)))
    return None


def _by_brands(file: BinaryIO, size: int, head: bytes) -> str | None:
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length, 4))}
    if brands & _AVIF:
        return "image/avif"
    if brands & _HEIC:
        return "image/heic"
    tracks = set(re.findall(rb"hdlr.{8}(....)", _movie_index(file, size), re.DOTALL))
    return "audio/mp4" if b"soun" in tracks and b"vide" not in tracks else None


def _movie_index(file: BinaryIO, size: int) -> bytes:
    """The bytes of the first `moov` box; empty when there is none or it is too large to be sound alone."""
    at = 0
    for _ in range(1024):
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if len(header) < 8 or length < 8 or at + length > size:
            return b""
        if header[4:8] == b"moov":
            file.seek(at)
            return file.read(length) if length <= _INDEX_LIMIT else b""
        at += length
    return b""


def _by_codecs(head: bytes) -> str | None:
    sound = re.search(rb"A_(?:OPUS|VORBIS)", head) and not re.search(rb"V_[A-Z]", head)
    return "audio/webm" if b"webm" in head[:64] and sound else None


def _by_members(names: frozenset[str]) -> str | None:
    if _CONTENT_TYPES not in names:
        return None
    found = [mime_type for member, mime_type in _OFFICE.items() if member in names]
    return found[0] if len(found) == 1 else None


def _members(file: BinaryIO, size: int) -> Iterator[str]:
    """The names in a ZIP archive's directory, as far as it is sound."""
    file.seek(max(0, size - 65_557))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return
    length, start = (int.from_bytes(tail[end + at : end + at + 4], "little") for at in (12, 16))
    if length > _INDEX_LIMIT or start + length > size:
        return
    file.seek(start)
    directory, at = file.read(length), 0
    while directory[at : at + 4] == b"PK\x01\x02" and at + 46 <= len(directory):
        name, extra, comment = (
            int.from_bytes(directory[at + place : at + place + 2], "little") for place in (28, 30, 32)
        )
        yield directory[at + 46 : at + 46 + name].decode("utf-8", "replace")
        at += 46 + name + extra + comment


def _by_text(file: BinaryIO, head: bytes, hint: str) -> str | None:
    if not _is_text(file):
        return None
    if _HTML.match(head):
        return "text/html"
    asked = hint.partition(";")[0].strip().lower()
    return asked if asked in _LOOK_ALIKES else "text/plain"


def _is_text(file: BinaryIO) -> bool:
    """Whether all of it is UTF-8 without control characters."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(0)
    try:
        while piece := file.read(_STEP):
            if _NO_TEXT.search(decoder.decode(piece)):
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
